"""Attributes of faces."""
