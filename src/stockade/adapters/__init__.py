"""One package or module for each outside thing, no logic. Adapters never import each other."""
