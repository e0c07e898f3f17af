"""Programs → chains. A program's chain dispatches on the service; a slice is a run of ports with the same lines.

Whoever calls a program goes on where it returns: it has let the packet by. What it refuses never comes back.

Chains are named by their content, so a changed program is new chains beside the old ones, and the maps that lead to
them switch in one transaction.

Many lines about one port stand in blocks, and blocks in blocks: a packet passes over a block with one look at a set of
all whom its lines speak of, so that what it costs grows with the logarithm of the lines.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby, pairwise

from stockade.core.compile.decide import PASSING, enforces
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.recording import Said, onward, prefix
from stockade.core.compile.nft.rule import counter, rule
from stockade.core.compile.nft.ruleset import Chain
from stockade.core.compile.nft.view import FAMILIES, NAMES, View
from stockade.core.compile.text import digest
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import AddressSet, Line, PrefixSet, Program, Tier
from stockade.core.model.net import LAST_PORT, Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode

REFUSED = "default_deny"
WOULD_REFUSE = "default_would_deny"
BY_MODE = "default"
"""What a decision is said to come from that no rule made."""


FEW = 8
"""Lines, or blocks of them, that a packet tries one after the other."""
LARGE = 1000
"""Addresses beyond which peers have no place in a block: sets of several peers would hold them over and over."""


class ProgramChains:
    """The chains of one program, one direction, one view. ``entry`` is the chain that verdict maps lead to.

    ``known``: every network by name, with the families in which it has prefixes. ``large``: peers of many addresses.
    ``together``: what peers the sets have that stand for several, by name less the family.
    """

    def __init__(self, program: Program, way: Direction, view: View, known: "Known", large: frozenset[str]) -> None:
        self.program = program
        self.way = way
        self.view = view
        self.families = dict(known)
        self.lines = program.egress if way is Direction.EGRESS else program.ingress
        self.chains: dict[str, Chain] = {}
        self.together: dict[str, tuple[str, ...]] = {}
        self._large = large
        self._slices: dict[tuple[Line, ...], str] = {}
        self.entry = self._entry()

    def slice_for(self, protocol: Protocol, port: int) -> str:
        """Return the chain that judges one service. It is there: a run of ports has it, or what no run names does."""
        return self._slices[tuple(line for line in self.lines if _covers(line, protocol, port))]

    def _entry(self) -> str:
        rules = []
        for protocol in NAMES:
            runs = [
                f"{_range(first, last)} : goto {self._slice(lines)}"
                for first, last, lines in runs_of(self.lines, protocol)
            ]
            if runs:
                rules.append(rule(f"{self.view.key(protocol)} vmap {{ {', '.join(runs)} }}"))
        rest = self._slice(tuple(line for line in self.lines if not line.ports))
        if not rules:
            return rest
        return self._chain("m", [*rules, rule(f"goto {rest}")])

    def _slice(self, lines: tuple[Line, ...]) -> str:
        if lines not in self._slices:
            self._slices[lines] = self._chain("s", list(self._judge(lines)))
        return self._slices[lines]

    def _chain(self, letter: str, rules: list[str]) -> str:
        name = f"{letter}{self.view.letter}{digest(chr(10).join(rules))}"
        self.chains[name] = Chain(rules=tuple(rules))
        return name

    def _judge(self, lines: tuple[Line, ...]) -> Iterator[str]:
        living_checked = False
        for (late, decides), several in groupby(lines, lambda line: (line.tier is Tier.DENY, self._decides(line))):
            if late and not living_checked:
                living_checked = True
                yield from self._living()
            if decides:
                yield from self._one_of(tuple(several), FAMILIES)
                continue
            for line in several:
                yield from self._line(line, FAMILIES)
                if not line.peers.name and not line.keep:
                    return  # it speaks of everybody: nothing after it is ever reached
        if self.program.mode is Mode.VISIBILITY:
            yield rule(f"counter name {WOULD_REFUSE} {self._onward(Said.WOULD_DENY)}")
            return
        if self.program.mode is Mode.SELECTIVE:
            yield rule(self._onward(Said.ALLOWED))
            return
        if self.program.mode is not Mode.FULL:
            yield rule("return")
            return
        if not living_checked:
            yield from self._living()
        yield rule(f"counter name {REFUSED} {self._onward(Said.DENIED)}")

    def _living(self) -> Iterator[str]:
        """A kept connection, or one older than tracking, lives on against plain deny and the default."""
        if enforces(self.program) and self.view.letter == "c":
            yield rule(f"ct state != new ct mark & {MARKS.living:#010x} != 0 return")

    def _decides(self, line: Line) -> bool:
        """Tell whether a line decides about each packet of its peers, and whether these are few workloads."""
        peers, spares = line.peers, line.keep and line.tier not in PASSING
        return bool(peers.name) and not peers.networks and peers.name not in self._large and not spares

    def _one_of(self, lines: tuple[Line, ...], families: tuple[int, ...]) -> Iterator[str]:
        """Lines each of which decides about its peers: the first that speaks of a packet's is found.

        Each block's chain is of one family, so that there is one way to each rule (``docs/adr/0014``).
        """
        size = 1
        while size * FEW < len(lines):
            size *= FEW
        for block in (lines[first : first + size] for first in range(0, len(lines), size)):
            if len(block) == 1:
                yield from self._line(block[0], families)
                continue
            name = self._together(block)
            for family in families:
                chain = self._chain("b", list(self._one_of(block, (family,))))
                yield rule(f"{self._at(family)} @{name}_{family} goto {chain}")

    def _together(self, block: Iterable[Line]) -> str:
        """Return the name of a set of all whom some lines speak of, less the family."""
        several = tuple(dict.fromkeys(line.peers.name for line in block))
        name = "u" + digest(" ".join(several))
        self.together[name] = several
        return name

    def _line(self, line: Line, families: Iterable[int]) -> Iterator[str]:
        """Where nothing is enforced, a denial is counted and the rest passes on."""
        for peers in self._peers(line, families):
            allow = line.tier in PASSING
            binding = enforces(self.program) or line.tier <= Tier.CUT_REST
            matches = f"{peers} " if peers else ""
            if line.keep and not allow and self.view.letter == "c":
                matches += "ct state new "
            counted = f"counter name {counter(line.rule, would=not binding and not allow)}"
            if allow and line.keep and binding and self.view.letter == "c":
                counted = f"meta mark set meta mark | {MARKS.keeping:#010x} {counted}"
            said = Said.ALLOWED if allow else Said.DENIED if binding else Said.WOULD_DENY
            yield rule(f"{matches}{counted} {self._onward(said, line.rule)}", line.rule)

    def _onward(self, said: Said, of: RuleId | None = None) -> str:
        """Tell of a decision and go on from it; ``of`` None: no rule made it, but the mode."""
        words = prefix(self.way, said, of) if of else prefix(self.way, said, BY_MODE, own=True)
        return onward(self.view, words, self.chains, refused=said is Said.DENIED)

    def _at(self, family: int) -> str:
        return self.view.at("destination" if self.way is Direction.EGRESS else "source", family)

    def _peers(self, line: Line, families: Iterable[int]) -> Iterator[str]:
        """Yield a match for each family in which the peers of a line can be met."""
        if not line.peers.name:
            yield ""
            return
        for family in families:
            at = self._at(family)
            if not line.peers.networks:
                yield f"{at} @{line.peers.name}_{family}"
            elif family in self.families[line.peers.name]:
                nobody = f"{at} != @inventory{family} {at} != @inside{family}"
                yield f"{at} @{network_name(line.peers.name)}_{family} {nobody}"


Known = frozenset[tuple[str, tuple[int, ...]]]
REMEMBERED = 2048
"""Chains of programs that are remembered: of some five hundred programs, each both ways and in both views."""


@lru_cache(REMEMBERED)
def program_chains(
    program: Program, way: Direction, view: View, known: Known, large: frozenset[str] = frozenset()
) -> ProgramChains:
    """Return a program's chains. A host has the same programs in one intent after the other."""
    return ProgramChains(program, way, view, known, large)


def known_networks(networks: Iterable[PrefixSet]) -> Known:
    """Return every network by name, with the families in which it has prefixes."""
    return frozenset(
        (each.name, tuple(sorted({6 if ":" in prefix else 4 for prefix in each.prefixes}))) for each in networks
    )


def large_peers(peers: Iterable[AddressSet]) -> frozenset[str]:
    """Return the names of peers of many addresses."""
    return frozenset(each.name for each in peers if len(each.addresses) > LARGE)


def network_name(name: str) -> str:
    """Return the name of a network set's nft sets, less the family."""
    return "n" + digest(name)


def runs_of(lines: tuple[Line, ...], protocol: Protocol) -> Iterator[tuple[int, int, tuple[Line, ...]]]:
    """Cut a protocol's ports into runs with the same lines; runs that no line names are left out."""
    named = [ports for line in lines for ports in line.ports if ports.protocol is protocol]
    if not named:
        return
    edges = sorted({0, *(each.first for each in named), *(each.last + 1 for each in named), LAST_PORT + 1})
    held: tuple[int, int, tuple[Line, ...]] | None = None
    for first, after in pairwise(edges):
        if not any(each.first <= first <= each.last for each in named):
            if held:
                yield held
            held = None
            continue
        covering = tuple(line for line in lines if _covers(line, protocol, first))
        if held and held[2] == covering:
            held = (held[0], after - 1, covering)
            continue
        if held:
            yield held
        held = (first, after - 1, covering)
    if held:
        yield held


def _covers(line: Line, protocol: Protocol, port: int) -> bool:
    return not line.ports or any(_holds(ports, protocol, port) for ports in line.ports)


def _holds(ports: Ports, protocol: Protocol, port: int) -> bool:
    return ports.protocol is protocol and ports.first <= port <= ports.last


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
