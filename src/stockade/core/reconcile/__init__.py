"""Desired × observed → ordered operations, as values."""
