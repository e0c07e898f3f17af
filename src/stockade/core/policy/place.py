"""Where in a document somebody writes: from text that need not be YAML yet, because it is being written. Pure.

Never raises, whatever the text is; what it does not understand is no place.
"""

import re
from collections.abc import Sequence

import msgspec

ITEM = "[]"
_KEY = re.compile(r"""(?P<quote>["']?)(?P<key>[A-Za-z][A-Za-z0-9_./-]*)(?P=quote)\s*:(?=\s|$)""")
_KIND = re.compile(r"^kind:\s*[\"']?([A-Za-z]+)", re.MULTILINE)
_LATER = re.compile(r"([A-Za-z][A-Za-z0-9_./-]*)\s*:(?:\s|$)")
LONGEST = 200_000
"""Characters that are looked at before where somebody writes, and behind it."""


class Place(msgspec.Struct, frozen=True):
    """What is being written: the document's kind, the keys that lead there (``[]``: an item of a list), and what
    stands there so far.

    ``key``: a key is being written, or an item; else the value of the path's last key. ``given``: keys that the mapping
    has already. ``flow``: within braces or brackets.
    """

    kind: str = ""
    path: tuple[str, ...] = ()
    key: bool = True
    said: str = ""
    given: frozenset[str] = frozenset()
    flow: bool = False


class _Level(msgspec.Struct):
    """A key or an item that what follows may belong to."""

    indent: int
    name: str
    given: set[str]


def place(text: str, offset: int) -> Place | None:
    """Return what is being written at an offset; None within a comment, or where nothing can be told."""
    before, behind = text[:offset][-LONGEST:], text[offset:][:LONGEST]
    lines, later = _document(before.split("\n"), behind.split("\n"))
    if _commented(lines[-1]):
        return None
    opened = _opened(lines)
    levels = _levels(lines[:opened])
    head = " ".join([lines[opened], *(line.strip() for line in lines[opened + 1 :])])
    kind = _KIND.search("\n".join([*lines[:-1], lines[-1] + later[0], *later[1:]]))
    return _written(head, levels, later, kind[1] if kind else "")


def _document(before: Sequence[str], behind: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the lines of the document that is written in, up to there and from there on."""
    start = max((at + 1 for at, line in enumerate(before[:-1]) if line.startswith("---")), default=0)
    end = next((at for at, line in enumerate(behind) if at and line.startswith("---")), len(behind))
    return before[start:], behind[:end]


def _commented(line: str) -> bool:
    quote = ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'" and _opens(line, at):
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace()):
            return True
    return False


def _opens(line: str, at: int) -> bool:
    """Tell whether a quote begins a text: it stands where a value or key begins."""
    return line[:at].rstrip()[-1:] in ("", ":", ",", "[", "{", "-")


def _opened(lines: Sequence[str]) -> int:
    """Return the line in which the outermost bracket was opened that is still open; the last line where none is."""
    depth, at = 0, len(lines) - 1
    for number, line in enumerate(lines):
        for change in _brackets(line):
            if depth == 0 and change > 0:
                at = number
            depth = max(depth + change, 0)
    return at if depth else len(lines) - 1


def _brackets(line: str) -> list[int]:
    found, quote = [], ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'" and _opens(line, at):
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace()):
            break
        elif char in "[{":
            found.append(1)
        elif char in "]}":
            found.append(-1)
    return found


def _levels(lines: Sequence[str]) -> list[_Level]:
    """Return what a next line may belong to, outermost first."""
    levels: list[_Level] = []
    depth = 0
    for line in lines:
        if not depth and line.strip() and not line.lstrip().startswith("#"):
            _enter(line, levels)
        depth = max(depth + sum(_brackets(line)), 0)
    return levels


def _enter(line: str, levels: list[_Level]) -> tuple[int, str]:
    """Go into a line's items and key; return where what is behind them begins, and what that is."""
    indent = len(line) - len(line.lstrip(" "))
    rest = line[indent:]
    while rest == "-" or rest.startswith("- "):
        _leave(levels, indent, item=True)
        levels.append(_Level(indent, ITEM, set()))
        inner = rest[1:].lstrip(" ")
        indent, rest = indent + len(rest) - len(inner), inner
    if found := _KEY.match(rest):
        same = _leave(levels, indent)
        given = same.given if same is not None else set()
        given.add(found["key"])
        levels.append(_Level(indent, found["key"], given))
        rest = rest[found.end() :].lstrip(" ")
    return indent, rest


def _leave(levels: list[_Level], indent: int, *, item: bool = False) -> _Level | None:
    """Drop what a line of that indent does not belong to; return the key beside it, where there is one."""
    beside = None
    while levels and (levels[-1].indent > indent or (levels[-1].indent == indent and not _holds(levels, item=item))):
        last = levels.pop()
        beside = last if last.indent == indent and last.name != ITEM else None
    return beside


def _holds(levels: list[_Level], *, item: bool) -> bool:
    """Tell whether an item may belong to a key of its own indent: YAML lets it."""
    return item and levels[-1].name != ITEM


def _written(head: str, levels: list[_Level], later: Sequence[str], kind: str) -> Place:
    indent, rest = _enter(head, levels)
    in_value = _KEY.match(_undashed(head)) is not None
    if in_value or rest[:1] in ("[", "{"):
        if not in_value:
            _leave(levels, indent)
        path = tuple(each.name for each in levels)
        return _value(path, rest, later[0], kind)
    beside = _leave(levels, indent)
    given = (beside.given if beside else set()) | _below(later[1:], indent)
    return Place(kind, tuple(each.name for each in levels), key=True, said=rest, given=frozenset(given))


def _undashed(head: str) -> str:
    rest = head.lstrip(" ")
    while rest.startswith("- "):
        rest = rest[1:].lstrip(" ")
    return rest


def _below(lines: Sequence[str], indent: int) -> set[str]:
    """Return the keys of the same mapping that stand below."""
    found: set[str] = set()
    for line in lines:
        if not line.strip():
            continue
        own = len(line) - len(line.lstrip(" "))
        if own < indent or (own == indent and line[own : own + 2] == "- "):
            break
        if own == indent and (key := _KEY.match(line[own:])):
            found.add(key["key"])
    return found


class _Open(msgspec.Struct):
    """A bracket that is open: what it is, the key whose value is being written, keys that were."""

    bracket: str
    key: str = ""
    given: set[str] = msgspec.field(default_factory=set)


def _value(path: tuple[str, ...], text: str, later: str, kind: str) -> Place:
    """Return what is being written in a value, which may be in brackets."""
    opened: list[_Open] = []
    since, quote, at = 0, "", 0
    while at < len(text):
        char = text[at]
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'" and not text[since:at].strip():
            quote = char
        elif char in "[{" and not text[since:at].strip():
            opened.append(_Open(char))
            since = at + 1
        elif opened and char in "]}":
            opened.pop()
            since = at + 1
        elif opened and char == ",":
            opened[-1].key = ""
            since = at + 1
        elif opened and opened[-1].bracket == "{" and char == ":" and text[at + 1 : at + 2] in ("", " "):
            opened[-1].key = text[since:at].strip().strip("\"'")
            opened[-1].given.add(opened[-1].key)
            since = at + 1
        at += 1
    said = text[since:].lstrip()
    inner = [step for each in opened for step in ((ITEM,) if each.bracket == "[" else (each.key,) if each.key else ())]
    last = opened[-1] if opened else None
    key = last is not None and last.bracket == "{" and not last.key
    given = (last.given | _closing(later)) if key and last is not None else set()
    return Place(kind, (*path, *inner), key=key, said=said, given=frozenset(given), flow=bool(opened))


def _closing(later: str) -> set[str]:
    """Return the keys that follow within the same braces."""
    return set(_LATER.findall(later.partition("}")[0].partition("{")[0]))
