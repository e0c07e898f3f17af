"""Stockade: zero-trust segmentation for containers and everything around them."""

__version__ = "0.1.0.dev0"
