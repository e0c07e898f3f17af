"""Checks as data and pure functions over collected facts → findings."""
