"""Snapshot → identities → vendor-free intent → text for each target. Never imports ``oracle``."""
