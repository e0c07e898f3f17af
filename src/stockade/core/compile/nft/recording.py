"""How the kernel tells of what was decided: over NFLOG, each judged connection once, the rule in its prefix.

A connection is told of when its first packet is judged and whenever it begins anew; of what is denied every packet is,
in the connection's own direction. Packets that are not tracked are told of one by one. What nobody reads costs nothing
but the look whether somebody does.
"""

import enum
from typing import NamedTuple

from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.rule import rule, short
from stockade.core.compile.nft.ruleset import Chain
from stockade.core.compile.nft.view import CONNECTION, View
from stockade.core.compile.text import digest
from stockade.core.model.ids import RuleId
from stockade.core.model.packet import Direction

GROUP = 5770
"""The NFLOG group. One that nobody else is likely to have chosen: libraries and firewalls begin at 0."""
ANSWERS = 5771
"""The group of resolvers' answers."""
WAYS = {Direction.EGRESS: "e", Direction.INGRESS: "i"}


class Said(str, enum.Enum):
    """What was decided, by its letter in a prefix."""

    ALLOWED = "a"
    DENIED = "d"
    WOULD_DENY = "w"


class Prefix(NamedTuple):
    """What a prefix says. ``of``: a policy rule's short id, or the name of what Stockade itself decides by."""

    way: Direction
    said: Said
    of: str


def prefix(way: Direction, said: Said, of: RuleId | str, *, own: bool = False) -> str:
    """Return the prefix of a decision. ``own``: ``of`` is no policy rule's id, and stands for itself."""
    return f"{WAYS[way]}{said.value}{of if own else short(RuleId(of))}"


def read(text: str) -> Prefix:
    """Return what a prefix says; ``ValueError`` where it is none of ours."""
    way = next((each for each, letter in WAYS.items() if text[:1] == letter), None)
    if way is None or len(text) < 3:
        raise ValueError(f"not a prefix of a decision: {text!r}")
    return Prefix(way, Said(text[1]), text[2:])


def statement(words: str) -> str:
    """Return the statement that tells of a packet under a prefix."""
    return f'log prefix "{words}" group {GROUP}'


ENOUGH = 1 << 20
"""Bytes that are told of what a resolver answers over one TCP connection: a zone that is transferred names nothing."""


def answered(where: str = "") -> tuple[str, ...]:
    """Return the rules that tell of what a resolver answers to whoever asked it. They decide nothing.

    The kernel knows which packets answer a question that was sent; what somebody forged is not told of. ``where``
    narrows it.
    """
    told = f"meta mark & {MARKS.forged:#010x} == 0 log group {ANSWERS}"
    ways = ("udp sport 53 ct direction reply", f"tcp sport 53 ct direction reply ct reply bytes < {ENOUGH}")
    return tuple(rule(f"{where} {way} {told}".strip()) for way in ways)


def onward(view: View, words: str, chains: dict[str, Chain], *, refused: bool) -> str:
    """Return how a rule of a slice goes on once its decision is made and counted, told under a prefix.

    Adds the chain that it takes to ``chains``, named by its content.
    """
    end = f"goto refuse_{view.letter}" if refused else "return"
    if view is not CONNECTION:
        return f"{statement(words)} {end}"
    began = "ct direction original" if refused else f"ct state new ct mark & {MARKS.admitted:#010x} == 0"
    rules = (rule(f"{began} {statement(words)}"), *((rule(end),) if refused else ()))
    name = f"t{view.letter}{digest(chr(10).join(rules))}"
    chains[name] = Chain(rules=rules)
    return f"goto {name}"


def dropped(by: str, way: Direction) -> str:
    """Return the statements that count and tell of what Stockade itself drops, and drop it."""
    return f"counter name {by} {statement(prefix(way, Said.DENIED, by, own=True))} drop"
