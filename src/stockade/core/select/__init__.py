"""Selectors: grammar, parser, matching, and an index with one roaring bitmap per label value."""
