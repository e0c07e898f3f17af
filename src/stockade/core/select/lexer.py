"""A selector's text → tokens, each with its place. Never fails on anything but what no token can be."""

import enum
import re
from typing import NamedTuple

from stockade.core.select.words import BARE, RESERVED
from stockade.errors import StockadeError

TEXT_LIMIT = 16_384
"""Characters in one selector."""


class SelectorError(StockadeError):
    """A selector that does not parse: what is wrong at ``offset`` (characters from 0), and ``length`` of it.

    ``expected`` says what could stand there, ``nearest`` the valid spelling that comes closest; either may be empty.
    """

    def __init__(self, message: str, offset: int = 0, length: int = 1, expected: str = "", nearest: str = "") -> None:
        super().__init__(message, remedy=f"write {expected}" if expected else "")
        self.offset = offset
        self.length = max(1, length)
        self.expected = expected
        self.nearest = nearest


class Kind(enum.Enum):
    """What a token is."""

    WORD = "a word"
    QUOTED = "a quoted value"
    KEYWORD = "a keyword"
    SIGN = "a sign"
    END = "the end"


class Token(NamedTuple):
    """One token: ``text`` is what it says (without quotes and escapes), ``length`` what it takes up."""

    kind: Kind
    text: str
    offset: int
    length: int

    @property
    def said(self) -> str:
        """The token as an error names it."""
        return "the end" if self.kind is Kind.END else f'"{self.text}"'


_SIGN = re.compile(r"!=|[=(),]")
_LOOKALIKES = {
    "==": "=",
    "=~": "=",
    "!~": "!=",
    "<>": "!=",
    "&&": "and",
    "||": "or",
    "&": "and",
    "|": "or",
    "!": "not",
    ":": "=",
    ";": "and",
    "[": "(",
    "]": ")",
    "{": "(",
    "}": ")",
}
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "r": "\r", "t": "\t"}
_CODE_POINT = re.compile(r"u\{([0-9A-Fa-f]{1,6})\}")


def tokens(text: str) -> list[Token]:
    """Return the tokens of a selector, the last one ``END``. Raises ``SelectorError``."""
    if len(text) > TEXT_LIMIT:
        raise SelectorError(f"a selector of {len(text)} characters is too long", TEXT_LIMIT, 1, f"at most {TEXT_LIMIT}")
    found = []
    offset = 0
    while offset < len(text):
        if text[offset] in " \t\r\n":
            offset += 1
            continue
        token = _token(text, offset)
        found.append(token)
        offset += token.length
    return [*found, Token(Kind.END, "", len(text), 1)]


def _token(text: str, offset: int) -> Token:
    if text[offset] in "\"'":
        return _quoted(text, offset)
    lookalike = text[offset : offset + 2] if text[offset : offset + 2] in _LOOKALIKES else text[offset]
    if lookalike in _LOOKALIKES and not text.startswith("!=", offset):
        nearest = _LOOKALIKES[lookalike]
        raise SelectorError(f'"{lookalike}" is no sign of this language', offset, len(lookalike), nearest=nearest)
    if sign := _SIGN.match(text, offset):
        return Token(Kind.SIGN, sign[0], offset, len(sign[0]))
    if word := BARE.match(text, offset):
        return _word(text, word[0], offset)
    raise _unwritable(text, offset, offset)


def _word(text: str, word: str, offset: int) -> Token:
    end = offset + len(word)
    if end < len(text) and text[end] not in " \t\r\n=!(),;&|\"'[]{}<>":
        raise _unwritable(text, end, offset)
    return Token(Kind.KEYWORD if word in RESERVED else Kind.WORD, word, offset, len(word))


def _unwritable(text: str, offset: int, start: int) -> SelectorError:
    """Say which character cannot stand bare; ``start`` is where its word begins."""
    character = text[offset]
    end = offset
    while end < len(text) and text[end] not in " \t\r\n=(),\"'":
        end += 1
    word = text[start:end]
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    wildcard = "; values are literal, there are no wildcards" if character in "*?" else ""
    nearest = f'"{word}"' if word.isprintable() and "\\" not in word else ""
    return SelectorError(
        f'"{shown}" must be quoted{wildcard}', offset, 1, "letters, digits and _ . / : @ + - or a quoted value", nearest
    )


def _quoted(text: str, start: int) -> Token:
    quote, offset = text[start], start + 1
    said: list[str] = []
    while offset < len(text):
        character = text[offset]
        if character == quote:
            return Token(Kind.QUOTED, "".join(said), start, offset + 1 - start)
        if character == "\\":
            character, width = _unescaped(text, offset)
            offset += width - 1
        said.append(character)
        offset += 1
    raise SelectorError("this quote is never closed", start, len(text) - start, f"a closing {quote}")


def _unescaped(text: str, offset: int) -> tuple[str, int]:
    """Return the character that the escape at ``offset`` means, and how many characters the escape takes."""
    sign = text[offset + 1 : offset + 2]
    if sign in _ESCAPES and sign:
        return _ESCAPES[sign], 2
    code = _CODE_POINT.match(text, offset + 1)
    if code and int(code[1], 16) <= 0x10FFFF:
        return chr(int(code[1], 16)), 1 + len(code[0])
    raise SelectorError("this escape means nothing", offset, 2, r"\\ \" \' \n \r \t or \u{HEX}")
