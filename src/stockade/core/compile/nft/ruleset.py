"""A ruleset as values: what our tables shall hold, and what they were seen to hold.

Texts are canonical, so that equality of text is equality of meaning: addresses as in ``model.net``, ranges ``a-b``,
concatenations joined by `` . ``, map elements ``key : goto chain``. Interface names within elements are quoted.
"""

from collections.abc import Mapping

import msgspec


class ElementSet(msgspec.Struct, frozen=True):
    """A named set or, where ``data`` is given, map.

    ``key`` is a type (``ipv4_addr . inet_service``) or, starting with ``typeof ``, an expression; ``data`` is
    ``verdict`` for a map. ``dynamic`` sets are filled by packets: their elements are the kernel's and are never
    compared. ``comment`` survives read-back (table and chain comments do not, in nft 1.0.6).
    """

    key: str
    data: str = ""
    flags: tuple[str, ...] = ()
    timeout: int = 0
    """Seconds; 0 is none."""
    comment: str = ""
    elements: frozenset[str] = frozenset()
    dynamic: bool = False


class Chain(msgspec.Struct, frozen=True):
    """A chain: its hook text (``type filter hook forward priority -5; policy accept;``; empty for a regular one)
    and its rules, each with a comment of its own that says what it is: read-back compares comments.
    """

    hook: str = ""
    rules: tuple[str, ...] = ()


class Table(msgspec.Struct, frozen=True):
    """One table of ours: ``family`` is ``inet`` or ``bridge``. Maps are keyed by object name."""

    family: str
    sets: Mapping[str, ElementSet] = {}
    counters: frozenset[str] = frozenset()
    chains: Mapping[str, Chain] = {}


class Ruleset(msgspec.Struct, frozen=True):
    """All our tables on one host. Every table's name is ``TABLE``. No tables: nothing of ours is there."""

    tables: tuple[Table, ...] = ()


TABLE = "stockade"


def rule_comment(rule: str) -> str:
    """Return the comment of a rule's text (between the last pair of quotes after `` comment ``), or an empty text."""
    _, found, tail = rule.rpartition(' comment "')
    return tail.rstrip('"') if found else ""
