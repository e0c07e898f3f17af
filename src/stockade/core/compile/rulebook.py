"""Policy → clauses: what each selected workload may send and receive, before anyone knows which workloads there are.

A clause is one line of somebody's program together with the selector that says whose. Pure policy: nothing here
looks at the inventory, so a rulebook is made once per policy version.
"""

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from stockade.core import select
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import ANYBODY, Line, Peers, Tier
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import (
    DEFAULT_MODE,
    Action,
    EnforcementMode,
    Mode,
    Networks,
    NetworkSet,
    PolicySet,
    Quarantine,
    Selected,
    ServiceRef,
    Where,
)
from stockade.core.model.policy import End as RuleEnd
from stockade.core.model.selector import ALL, And, Everything, Or, Selector

TIERS = {Action.OVERRIDE_DENY: Tier.OVERRIDE_DENY, Action.ALLOW: Tier.ALLOW, Action.DENY: Tier.DENY}
STRICTNESS = {mode: rank for rank, mode in enumerate(Mode)}


class Term(msgspec.Struct, frozen=True, gc=False):
    """The workloads that a line's peers are. ``adrift``: only those at none of whose ends a host of ours judges."""

    selector: Selector
    adrift: bool = False

    @property
    def name(self) -> str:
        """A name that says what is meant, whoever that turns out to be."""
        text = select.text(self.selector) + (" (adrift)" if self.adrift else "")
        return "p" + blake2b(text.encode(), digest_size=6).hexdigest()


class Clause(msgspec.Struct, frozen=True, gc=False):
    """``line`` belongs to the programs of the workloads that ``subject`` selects, in this direction.

    ``quarantine`` clauses are in programs of every mode; ``peers_only`` ones not in those of quarantined workloads.
    """

    subject: Selector
    direction: Direction
    line: Line
    quarantine: bool = False
    peers_only: bool = False


class Rulebook(msgspec.Struct, frozen=True):
    """Everything that policy says, in the order in which it counts. ``modes``: the first that selects decides."""

    clauses: tuple[Clause, ...]
    modes: tuple[EnforcementMode, ...]
    quarantined: Selector | None
    terms: dict[str, Term]
    networks: dict[str, NetworkSet]
    wheres: dict[RuleId, Where]

    def selectors(self) -> tuple[Selector, ...]:
        """Return every selector that says of whom a clause, a term, a mode or quarantine is, each once."""
        said = [clause.subject for clause in self.clauses]
        said += [term.selector for term in self.terms.values()]
        said += [mode.select for mode in self.modes]
        said += [] if self.quarantined is None else [self.quarantined]
        return tuple(dict.fromkeys(said))

    def keys(self) -> frozenset[str]:
        """Return every dimension by which this policy can tell workloads apart."""
        return select.keys(*self.selectors())


def rulebook(policy: PolicySet, lapsed: frozenset[str] = frozenset()) -> Rulebook:
    """Make the rulebook of a complete policy (built-ins included); quarantines in ``lapsed`` do not count."""
    book = _Writer(policy)
    quarantines = [each for each in policy.quarantines if each.name not in lapsed]
    clauses = [*book.rules(), *book.quarantines(quarantines)]
    return Rulebook(
        clauses=tuple(clauses),
        modes=tuple(sorted(policy.modes, key=_precedence)),
        quarantined=_any_of(quarantines),
        terms=book.terms,
        networks={each.name: each for each in policy.network_sets},
        wheres=book.wheres,
    )


def both(first: Selector, second: Selector) -> Selector:
    """Return ``first and second``, where ``all`` adds nothing."""
    if isinstance(first, Everything):
        return second
    return first if isinstance(second, Everything) else select.normal(And((first, second)))


def _precedence(mode: EnforcementMode) -> tuple[bool, int, int, str]:
    """Order modes: higher priority, then the stricter, ``default`` last whatever it says (``docs/policy.md``, 3)."""
    return (mode.name == DEFAULT_MODE, -mode.priority, -STRICTNESS[mode.mode], mode.name)


def _any_of(quarantines: list[Quarantine]) -> Selector | None:
    selectors = tuple(each.select for each in quarantines)
    if len(selectors) < 2:
        return selectors[0] if selectors else None
    return Or(selectors)


class _Writer:
    """Collects the peer terms and places that clauses name while they are written."""

    def __init__(self, policy: PolicySet) -> None:
        self.policy = policy
        self.services = {service.name: service.ports for service in policy.services}
        self.terms: dict[str, Term] = {}
        self.wheres: dict[RuleId, Where] = {}
        self._met: dict[tuple[Selector, Selector], Selector] = {}
        self._named: dict[Term, Peers] = {}

    def rules(self) -> Iterator[Clause]:
        """A rule counts at each end that lies inside its policy's scope (``docs/policy.md``, 1)."""
        for policy in self.policy.policies:
            for rule in policy.rules:
                self.wheres[rule.id] = rule.where
                ports = self.ports(rule.on)
                ends = (
                    (Direction.EGRESS, rule.source, rule.destination),
                    (Direction.INGRESS, rule.destination, rule.source),
                )
                for direction, own, other in ends:
                    if isinstance(own, Selected) and ports is not None:
                        peers = self.peers(other, policy.scope)
                        line = Line(TIERS[rule.action], rule.id, peers, ports, rule.keep)
                        yield Clause(self.within(policy.scope, own.selector), direction, line)

    def quarantines(self, quarantines: list[Quarantine]) -> Iterator[Clause]:
        """Cut, spare what is named, cut the rest; at the workload's own end, or else at its peers' ends (2)."""
        everyone = _any_of(quarantines)
        if everyone is None:
            return
        for quarantine in quarantines:
            rule = RuleId(f"quarantine/{quarantine.name}")
            self.wheres[rule] = quarantine.where
            adrift = self.term(Term(quarantine.select, adrift=True))
            for direction in Direction:
                cut_peers = Line(Tier.CUT, rule, self.term(Term(quarantine.select)))
                yield Clause(everyone, direction, cut_peers, quarantine=True)
                yield Clause(quarantine.select, direction, Line(Tier.CUT_REST, rule, ANYBODY), quarantine=True)
                cut_adrift = Line(Tier.CUT_REST, rule, adrift)
                yield Clause(ALL, direction, cut_adrift, quarantine=True, peers_only=True)
            yield from self.exceptions(quarantine, rule, adrift)

    def exceptions(self, quarantine: Quarantine, rule: RuleId, adrift: Peers) -> Iterator[Clause]:
        """What a quarantine spares, at the workload's own end and, for one adrift, at the end it is spared for."""
        for spared in quarantine.excepted:
            ports = self.ports(spared.on)
            for other, own_way, their_way in (
                (spared.source, Direction.INGRESS, Direction.EGRESS),
                (spared.destination, Direction.EGRESS, Direction.INGRESS),
            ):
                if other is None or ports is None:
                    continue
                own = Line(Tier.SPARED, rule, self.peers(other, ALL), ports)
                yield Clause(quarantine.select, own_way, own, quarantine=True)
                if isinstance(other, Selected):
                    theirs = Line(Tier.SPARED, rule, adrift, ports)
                    yield Clause(other.selector, their_way, theirs, quarantine=True, peers_only=True)

    def peers(self, end: RuleEnd, scope: Selector) -> Peers:
        """Name the other end of a rule. Inside the scope, unless ``any(…)`` lifts that."""
        if isinstance(end, Networks):
            return Peers(",".join(sorted(end.names)), networks=True)
        return self.term(Term(end.selector if end.anywhere else self.within(scope, end.selector)))

    def within(self, scope: Selector, selector: Selector) -> Selector:
        """Return a selector within a scope; policies say the same one often."""
        met = self._met.get((scope, selector))
        if met is None:
            met = self._met[scope, selector] = both(scope, selector)
        return met

    def term(self, term: Term) -> Peers:
        """Name some peers and remember whom the name means."""
        peers = self._named.get(term)
        if peers is None:
            peers = self._named[term] = Peers(term.name)
            self.terms[peers.name] = term
        return peers

    def ports(self, on: tuple[ServiceRef, ...]) -> tuple[Ports, ...] | None:
        """Write services out as sorted, disjoint ports; everything is an empty tuple, nothing at all is None."""
        written: list[Ports] = []
        for service in on:
            written += [service] if isinstance(service, Ports) else self.services.get(service, ())
        if not on or any(ports.protocol is Protocol.ANY for ports in written):
            return ()
        return merged(written) or None


def merged(ports: list[Ports]) -> tuple[Ports, ...]:
    """Return the same ports, sorted, overlapping and adjacent ranges joined."""
    result: list[Ports] = []
    for each in sorted(ports):
        last = result[-1] if result else None
        if last is not None and last.protocol is each.protocol and each.first <= last.last + 1:
            result[-1] = Ports(each.protocol, last.first, max(last.last, each.last))
        else:
            result.append(each)
    return tuple(result)
