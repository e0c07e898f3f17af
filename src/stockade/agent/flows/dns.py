"""Answers of resolvers (RFC 1035): which name led to which addresses, and for how long. Pure.

Promises, whatever the bytes: returns, in time that grows with their number; raises nothing. A message is taken whole or
not at all: one that was cut off, points in circles or contradicts itself tells nothing. Names are what may stand in a
host's name and no more, in lower case: what comes from here steers no terminal and is no script.
"""

import struct
from typing import NamedTuple

HEADER, QUESTION, RECORD = struct.Struct("!HHHHHH"), struct.Struct("!HH"), struct.Struct("!HHIH")
ANSWERS, TRUNCATED, OPCODE, FAILURE = 0x8000, 0x0200, 0x7800, 0x000F
INTERNET, A, CNAME, AAAA = 1, 1, 5, 28
MOST_RECORDS = 128
"""Records of a message that are looked at: more is no answer to whom anybody asked."""
LONGEST_NAME, LONGEST_LABEL = 253, 63
POINTER = 0xC0
_ALLOWED = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")


class Answer(NamedTuple):
    """What a resolver told: the name that was asked for, and the addresses (packed) that it leads to.

    ``ttl``: for how many seconds, the least of all that led there.
    """

    asker: bytes
    resolver: bytes
    name: str
    addresses: tuple[bytes, ...]
    ttl: int


class Nonsense(Exception):  # noqa: N818 - reads as what it is
    """This is no whole answer."""


def answer(asker: bytes, resolver: bytes, message: bytes) -> Answer | None:
    """Return what a message tells; None where it tells of no address."""
    try:
        name, addresses, ttl = _answered(message)
    except (Nonsense, struct.error, IndexError):
        return None
    return Answer(asker, resolver, name, addresses, ttl) if addresses else None


def _answered(message: bytes) -> tuple[str, tuple[bytes, ...], int]:
    """Follow the answer's aliases from the question to addresses."""
    _, flags, questions, answers, _, _ = HEADER.unpack_from(message)
    if not flags & ANSWERS or flags & (TRUNCATED | OPCODE | FAILURE) or questions != 1 or answers > MOST_RECORDS:
        raise Nonsense
    asked, at = _name(message, HEADER.size)
    kind, what = QUESTION.unpack_from(message, at)
    if kind not in (A, AAAA) or what != INTERNET:
        raise Nonsense
    at += QUESTION.size
    aliases: dict[str, tuple[str, int]] = {}
    found: dict[str, list[tuple[bytes, int]]] = {}
    for _ in range(answers):
        name, at = _name(message, at)
        of, what, ttl, length = RECORD.unpack_from(message, at)
        at += RECORD.size
        content = message[at : at + length]
        if len(content) != length:
            raise Nonsense
        ttl = 0 if ttl >> 31 else ttl  # RFC 2181, 8
        if what == INTERNET and of == CNAME:
            target, end = _name(message, at)
            if end != at + length:
                raise Nonsense
            aliases.setdefault(name, (target, ttl))
        elif what == INTERNET and of == kind:
            if length != (4 if kind == A else 16):
                raise Nonsense
            found.setdefault(name, []).append((content, ttl))
        at += length
    return asked, *_led(asked, aliases, found)


def _led(
    name: str, aliases: dict[str, tuple[str, int]], found: dict[str, list[tuple[bytes, int]]]
) -> tuple[tuple[bytes, ...], int]:
    """Return the addresses to which a name leads, and for how long all of that holds."""
    lives: list[int] = []
    for _ in range(len(aliases) + 1):
        if name in found:
            lives += [ttl for _, ttl in found[name]]
            return tuple(dict.fromkeys(address for address, _ in found[name])), min(lives)
        if name not in aliases:
            break
        name, ttl = aliases[name]
        lives.append(ttl)
    return (), 0


def _name(message: bytes, at: int) -> tuple[str, int]:
    """Return a name and where what follows it begins. Pointers lead back, each further than the last."""
    parts: list[str] = []
    after, lowest, size = 0, at, 0
    while length := message[at]:
        if length & POINTER == POINTER:
            after = after or at + 2
            at = (length & ~POINTER) << 8 | message[at + 1]
            if at >= lowest:
                raise Nonsense
            lowest = at
            continue
        label = message[at + 1 : at + 1 + length].translate(_LOWER)
        size += length + 1
        if length > LONGEST_LABEL or len(label) != length or size > LONGEST_NAME + 1 or not _ALLOWED.issuperset(label):
            raise Nonsense
        parts.append(label.decode("ascii"))
        at += 1 + length
    if not parts:
        raise Nonsense
    return ".".join(parts), after or at + 1
