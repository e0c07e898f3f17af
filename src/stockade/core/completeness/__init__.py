"""The completeness audit: what the kernel shows and nobody tells of. Never says clean of what was not looked at."""

from stockade.core.completeness.assess import assess
from stockade.core.completeness.values import Completeness, Dark, Off, SourceView

__all__ = ["Completeness", "Dark", "Off", "SourceView", "assess"]
