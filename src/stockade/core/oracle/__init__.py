"""The slow, obvious verdict, written from ``docs/policy.md`` alone. Imports only ``model``; never ``compile``."""
