"""What nft lists → a ``Ruleset`` in canonical text.

Why not nft's JSON: version 1.0.6 loses there what a set is declared by (``typeof``), that it is dynamic, and the width
of raw payload in an element. Promises: whatever is listed gives a value; what is not ours to know (a foreign object,
an option that we never set) shows as a difference or not at all. Never raises on what others wrote; ``Torn`` where the
kernel was moving a set's elements while they were read.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator

from stockade.core.compile.nft.ruleset import TABLE, Chain, ElementSet, Ruleset, Table

_TABLE = re.compile(rf"table (\w+) {TABLE} \{{(?: #.*)?")
_OBJECT = re.compile(r"\t(set|map|counter|chain) (\S+) \{(?: #.*)?")
_SPAN = re.compile(r"(\d+)(d|h|ms|m|s)")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_EXPIRES = re.compile(r" expires \S+")
_TIMEOUT = re.compile(r" timeout (\S+)")
_WIDTH = re.compile(r"@\w+,\d+,(\d+)")
_MIXED = re.compile(r"[0-9A-Fa-f:]*::?[0-9A-Fa-f:]*\d+\.\d+\.\d+\.\d+")
_PARTS = re.compile(r'(?:"[^"]*"|[^,"])+')
_UNCOMPARED = ("size", "gc-interval")
"""What the kernel adds to a dynamic set by itself."""


class Torn(Exception):  # noqa: N818 - reads as what happened
    """A set lists an element twice: its hash table was being resized, and another element is missing. Read again."""


def parse(listed: str) -> Ruleset:
    """Return our tables as listed: inet first, then bridge. Raises ``Torn``."""
    tables = {table.family: table for table in _tables(listed.split("\n"))}
    return Ruleset(tuple(tables[family] for family in ("inet", "bridge") if family in tables))


def _tables(lines: list[str]) -> Iterator[Table]:
    at = 0
    while at < len(lines):
        if found := _TABLE.fullmatch(lines[at]):
            end = _end(lines, at + 1, "}")
            yield _table(found[1], lines[at + 1 : end])
            at = end
        at += 1


def _table(family: str, lines: list[str]) -> Table:
    sets: dict[str, ElementSet] = {}
    chains: dict[str, Chain] = {}
    counters: set[str] = set()
    at = 0
    while at < len(lines):
        if found := _OBJECT.fullmatch(lines[at]):
            end = _end(lines, at + 1, "\t}")
            kind, name = found.groups()
            body = lines[at + 1 : end]
            if kind == "chain":
                chains[name] = _chain(body)
            elif kind == "counter":
                counters.add(name)
            else:
                sets[name] = _set(body)
            at = end
        at += 1
    return Table(family, sets=sets, counters=frozenset(counters), chains=chains)


def _end(lines: list[str], at: int, closing: str) -> int:
    """Return where the block that begins at ``at`` is closed."""
    try:
        return lines.index(closing, at)
    except ValueError:
        return len(lines)


def _chain(lines: list[str]) -> Chain:
    texts = [line.removeprefix("\t\t") for line in lines]
    hooked = bool(texts) and texts[0].startswith("type ")
    return Chain(texts[0] if hooked else "", tuple(texts[hooked:]))


def _set(lines: list[str]) -> ElementSet:
    told, listed = _declaration(lines)
    key, _, data = told.pop("type", "").partition(" : ")
    if "typeof" in told:
        key, _, data = told.pop("typeof").partition(" : ")
        key = f"typeof {key}"
    flags = {flag for flag in told.pop("flags", "").split(",") if flag}
    timeout = seconds(told.pop("timeout", ""))
    if timeout:
        flags.add("timeout")
    comment = told.pop("comment", "").removeprefix('"').removesuffix('"')
    for ignored in _UNCOMPARED:
        told.pop(ignored, "")
    # An option that we never set makes the set another one than ours.
    flags.update(told)
    dynamic = "dynamic" in flags
    elements: frozenset[str] = frozenset() if dynamic else _whole(list(_elements(key, listed)))
    return ElementSet(key, data, tuple(sorted(flags)), timeout, comment, elements, dynamic)


def _whole(elements: list[str]) -> frozenset[str]:
    """A dump goes on where it was by count, so that in another order as many are met twice as are missed."""
    found = frozenset(elements)
    if len(found) < len(elements):
        raise Torn
    return found


def _declaration(lines: list[str]) -> tuple[dict[str, str], str]:
    """Return a set's properties by their first word, and the text between the braces of its elements."""
    told: dict[str, str] = {}
    for at, line in enumerate(lines):
        word, _, rest = line.strip().partition(" ")
        if word == "elements":
            return told, "\n".join([rest, *lines[at + 1 :]]).removeprefix("= {").rstrip().removesuffix("}").strip()
        told[word] = rest
    return told, ""


def _elements(key: str, listed: str) -> Iterable[str]:
    if not listed:
        return ()
    found: Iterable[str] = re.split(r",\s+", listed)
    if ' comment "' in listed:
        found = (part.strip() for part in _PARTS.findall(listed))
    if " expires " in listed or " timeout " in listed:
        found = (_TIMEOUT.sub(_in_seconds, _EXPIRES.sub("", part)) for part in found)
    if _MIXED.search(listed):
        found = (_MIXED.sub(_plain_v6, part) for part in found)
    if "@" in key:
        found = _widened(key, found)
    return found


def _widened(key: str, elements: Iterable[str]) -> Iterator[str]:
    """Numbers read from the packet as wide as they are: nft leaves out leading zeros."""
    fields = [_WIDTH.search(field) for field in key.removeprefix("typeof ").split(" . ")]
    digits = [-(-int(found[1]) // 4) if found else 0 for found in fields]
    for element in elements:
        parts = element.split(" . ")
        if len(parts) == len(digits):
            parts = [_wide(part, width) if width else part for part, width in zip(parts, digits, strict=True)]
        yield " . ".join(parts)


def _wide(number: str, digits: int) -> str:
    try:
        return f"{int(number, 0):#0{digits + 2}x}"
    except ValueError:
        return number


def _in_seconds(found: re.Match[str]) -> str:
    return f" timeout {seconds(found[1])}s"


def _plain_v6(found: re.Match[str]) -> str:
    """``::ffff:10.0.0.1`` as ``ipaddress`` writes it."""
    try:
        return str(ipaddress.IPv6Address(found[0]))
    except ValueError:
        return found[0]


def seconds(span: str) -> int:
    """Return whole seconds of a span such as ``1m30s``; 0 of an empty one."""
    return round(sum(int(number) * _SECONDS[unit] for number, unit in _SPAN.findall(span)))
