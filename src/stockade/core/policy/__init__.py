"""Policy documents ↔ model: read, check, normalise, version."""
