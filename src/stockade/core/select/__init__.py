"""Selectors: grammar, parser, matching, and an index with one roaring bitmap per label value.

Promises: every text parses to one normal form or to a ``SelectorError`` with a position; ``parse(text(s)) == s`` for
every normal ``s``. Never raises anything else on any text. The index lives in ``stockade.core.select.index`` and is
imported from there alone, so that whoever only matches does not load bitmaps.
"""

from stockade.core.select.match import keys, matches
from stockade.core.select.parser import SelectorError, parse
from stockade.core.select.satisfy import satisfiable
from stockade.core.select.text import normal, text
from stockade.core.select.words import KEY_LIMIT, KEY_PATTERN, VALUE_LIMIT, is_key, is_value, shows

__all__ = [
    "KEY_LIMIT",
    "KEY_PATTERN",
    "VALUE_LIMIT",
    "SelectorError",
    "is_key",
    "is_value",
    "keys",
    "matches",
    "normal",
    "parse",
    "satisfiable",
    "shows",
    "text",
]
