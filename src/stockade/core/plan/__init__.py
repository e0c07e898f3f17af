"""Draft × active → what would change."""
