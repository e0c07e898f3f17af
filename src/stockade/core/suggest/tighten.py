"""A live policy narrowed to what was used of it.

Each allow keeps its id, its place and its shape: fewer services, fewer labels, fewer network sets, or it goes. What
decided at an end is credited there: the first allow in the order in which rules count. Promises that what passed by
these rules still passes, and that nothing passes that did not. Denials, tests and the scope stay as they are.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from stockade.core import policy as documents
from stockade.core import select
from stockade.core.compile.population import program_for
from stockade.core.graph.judge import Judge
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.services import Services, covers, protocol_of, size
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd, StoredFlow
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import Line, Program, Tier
from stockade.core.model.net import Ports
from stockade.core.model.policy import Action, End, Networks, Policy, PolicySet, Rule, Selected, ServiceRef
from stockade.core.model.selector import And, Not, Or, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.parties import includes
from stockade.core.plan.permitted import covers as line_covers
from stockade.core.plan.portset import portset
from stockade.core.suggest.networks import Sets
from stockade.core.suggest.people import People, Who
from stockade.core.suggest.sifting import ends
from stockade.core.suggest.values import Evidence
from stockade.core.suggest.writing import WIDE, evidence
from stockade.errors import StockadeError


class Tightened(msgspec.Struct, frozen=True):
    """One allow before and after; ``after`` is None where it was not used. The same twice: all of it was used."""

    before: Rule
    after: Rule | None
    evidence: Evidence | None = None


class Tightening(msgspec.Struct, frozen=True):
    """A draft of a policy, and what became of each of its allows. Seconds since the epoch: the time looked at."""

    policy: PolicySet
    text: str
    rules: tuple[Tightened, ...]
    since: float
    until: float


def tighten(flows: Sequence[StoredFlow], snapshot: Snapshot, name: str) -> Tightening:
    """Narrow the policy of a name. Raises ``StockadeError`` where there is none, or nothing was recorded."""
    policy = next((each for each in snapshot.policy.policies if each.name == name), None)
    if policy is None:
        raise StockadeError(f"no policy is called {name}", remedy="`stockade policy list` names them")
    if not flows:
        raise StockadeError("no flows were recorded in this time", remedy="nothing is known to be unused: look at more")
    traffic = [each for each in merged(flows, telling(snapshot)) if each.seen.passed]
    used = _used(traffic, snapshot)
    narrowing = _Narrowing(snapshot, policy, traffic)
    rules = tuple(_tightened(rule, used.get(rule.id, []), narrowing) for rule in policy.rules if _is_allow(rule))
    after = {each.before.id: each.after for each in rules}
    kept = (after.get(rule.id, rule) for rule in policy.rules)
    made = PolicySet(policies=(replace(policy, rules=tuple(each for each in kept if each is not None)),))
    return Tightening(
        made,
        documents.to_documents(made),
        rules,
        min(each.tally.first for each in flows),
        max(each.tally.last for each in flows),
    )


def _is_allow(rule: Rule) -> bool:
    return rule.action is Action.ALLOW


def _tightened(rule: Rule, used: list[Traffic], narrowing: "_Narrowing") -> Tightened:
    if not used:
        return Tightened(rule, None)
    return Tightened(rule, narrowing.rule(rule, used), evidence(used))


# Which rule lets what pass


def _used(traffic: Iterable[Traffic], snapshot: Snapshot) -> dict[RuleId, list[Traffic]]:
    """Credit the rules that let traffic pass, at each end the first that speaks of it."""
    crediting = _Crediting(snapshot)
    found: dict[RuleId, list[Traffic]] = {}
    for each in traffic:
        for rule in sorted(crediting.rules(each)):
            found.setdefault(rule, []).append(each)
    return found


class _Crediting:
    def __init__(self, snapshot: Snapshot) -> None:
        self.judge = Judge(snapshot)
        self._programs: dict[int, Program] = {}

    def rules(self, traffic: Traffic) -> set[RuleId]:
        one = self.judge.party(traffic.source, told=True)
        other = self.judge.party(traffic.destination, told=True)
        found = set()
        for mine, far, leaving in ((one, other, True), (other, one, False)):
            if not mine.workloads or not mine.workloads[0].known:
                continue
            if id(mine) not in self._programs:
                self._programs[id(mine)] = mine.program or program_for(self.judge.world.book, mine.workloads[0])
            program = self._programs[id(mine)]
            ports = Ports(protocol_of(traffic.protocol), traffic.port, traffic.port)
            lines = program.egress if leaving else program.ingress
            book = self.judge.world.book
            speaking = (each for each in lines if line_covers(each, ports) and includes(book, each.peers, far))
            first = next(speaking, None)
            if first is not None and _opens(first):
                found.add(first.rule)
        return found


def _opens(line: Line) -> bool:
    return line.tier is Tier.ALLOW


# What is left of a rule


class _Narrowing:
    """Narrows the rules of one policy."""

    def __init__(self, snapshot: Snapshot, policy: Policy, traffic: Sequence[Traffic]) -> None:
        selectors = [end.selector for rule in policy.rules for end in _both(rule) if isinstance(end, Selected)]
        self.people = People(snapshot, policy.scope, ends(traffic), select.keys(*selectors))
        self.sets = Sets(snapshot)
        self.services = Services(snapshot.policy)

    def rule(self, rule: Rule, used: list[Traffic]) -> Rule:
        """Return what of a rule was used."""
        return replace(
            rule,
            source=self._end(rule.source, [each.source for each in used]),
            destination=self._end(rule.destination, [each.destination for each in used]),
            on=self._on(rule.on, {(each.protocol, each.port) for each in used}),
        )

    def _end(self, end: End, used: list[FlowEnd]) -> End:
        if isinstance(end, Networks):
            held = {name for each in used for name in self.sets.all_holding(each)}
            return Networks(tuple(name for name in end.names if name in held) or end.names)
        meant = self._meant(end)
        known = [each for each in (self.people.workload(one) for one in used) if each is not None]
        classes = {self.people.class_of(each) for each in known}
        if not classes or classes >= meant:
            return end
        wanted = frozenset(Who(not end.anywhere, of) for of in classes & meant)
        return replace(end, selector=_narrowed(end.selector, [found for found, _ in self.people.selectors(wanted)]))

    def _meant(self, end: Selected) -> set[tuple[tuple[str, str], ...]]:
        """Return the classes that an end means."""
        return {
            of
            for of, members in self.people.classes.items()
            if (end.anywhere or of in self.people.inside)
            and select.matches(end.selector, members[0].labels, members[0].name)
        }

    def _on(self, on: tuple[ServiceRef, ...], used: set[tuple[int, int]]) -> tuple[ServiceRef, ...]:
        if not on:
            return self._named(used)
        return tuple(part for each in on for part in self._part(each, used))

    def _part(self, ref: ServiceRef, used: set[tuple[int, int]]) -> Iterator[ServiceRef]:
        mine = {each for each in used if any(covers(ports, *each) for ports in self.services.written((ref,)))}
        if not mine:
            return
        if isinstance(ref, Ports) and size((ref,)) > WIDE:
            yield from _single(mine)
        else:
            yield ref

    def _named(self, used: set[tuple[int, int]]) -> tuple[ServiceRef, ...]:
        """Write ports as services that mean no more than a few besides."""
        names = {self._narrow(*each) for each in used} - {""}
        bare = {each for each in used if not self._narrow(*each)}
        return (*sorted(names), *_single(bare))

    def _narrow(self, protocol: int, port: int) -> str:
        return next((each.name for each in self.services.holding(protocol, port) if size(each.ports) <= WIDE), "")


def _both(rule: Rule) -> tuple[End, End]:
    return rule.source, rule.destination


def _single(used: set[tuple[int, int]]) -> tuple[Ports, ...]:
    return portset(Ports(protocol_of(protocol), port, port) for protocol, port in sorted(used)).ranges


def _narrowed(whole: Selector, parts: list[Selector]) -> Selector:
    """Join parts, within what the rule said before where they do not lie within it by themselves."""
    narrow = parts[0] if len(parts) == 1 else select.normal(Or(tuple(parts)))
    beyond = select.satisfiable(select.normal(And((narrow, Not(whole)))))
    return select.normal(And((whole, narrow))) if beyond else narrow
