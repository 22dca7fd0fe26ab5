"""Supervised multi-task learning."""
