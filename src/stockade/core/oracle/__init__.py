"""The slow, obvious verdict, written from ``docs/policy.md`` alone. Imports only ``model``; never ``compile``."""

from stockade.core.oracle.modes import births, mode
from stockade.core.oracle.verdict import received, verdict

__all__ = ["births", "mode", "received", "verdict"]
