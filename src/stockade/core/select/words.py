"""The lexical grammar of selectors: what a label's key and value may be, and how they are written.

A key is one word of ASCII letters, digits and ``_ . / -`` that begins and ends with a letter or digit (``app``,
``example.com/team``). A value is any text; it is written bare where it is one word of letters, digits and
``_ . / : @ + -`` that begins with a letter, digit or ``_``, and in quotes otherwise. Reserved words are never keys,
and as values they are quoted. Inside quotes (double or single) a backslash escapes itself, a quote, ``n``, ``r``,
``t``, and ``u{HEX}`` for any character.
"""

import re
import unicodedata

KEY_LIMIT = 317
"""A Kubernetes label key at its longest: a prefix of 253, a slash, a name of 63."""

VALUE_LIMIT = 256
"""The longest value of a cloud tag."""

RESERVED = frozenset({"all", "and", "any", "has", "in", "networks", "not", "or", "trusted"})

KEY_PATTERN = "[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?"
KEY = re.compile(KEY_PATTERN)
BARE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:@+-]*")
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def is_key(text: str) -> bool:
    """Tell whether a label may have this key."""
    return len(text) <= KEY_LIMIT and text not in RESERVED and KEY.fullmatch(text) is not None


def is_value(text: str) -> bool:
    """Tell whether a label may have this value: not empty, not too long, and Unicode that can be written down."""
    return 0 < len(text) <= VALUE_LIMIT and not any("\ud800" <= character <= "\udfff" for character in text)


def shows(text: str) -> bool:
    """Tell whether a text holds no control, format, surrogate or line-separating character.

    Such could pass for another text, or break a line.
    """
    return text.isprintable() or not any(
        unicodedata.category(char)[0] == "C" or unicodedata.category(char) in {"Zl", "Zp"} for char in text
    )


def written(value: str) -> str:
    """Return a value as a selector writes it: bare where it can be, else quoted, with nothing unprintable in it."""
    if value not in RESERVED and BARE.fullmatch(value):
        return value
    return '"' + "".join(map(_escape, value)) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
