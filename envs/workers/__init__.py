"""Processes that step the rows of a vector environment."""
