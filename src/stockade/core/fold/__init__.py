"""Events → snapshot, one at a time or all at once."""
