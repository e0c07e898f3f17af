"""Policy tests and invariants, run on a world."""

import ipaddress
from collections.abc import Iterable, Iterator

from stockade.core import select
from stockade.core.compile.population import program_for
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Sighting, Workload, WorkloadKind
from stockade.core.model.labels import Label, Labels
from stockade.core.model.policy import Expectation, Never, Policy, PolicyTest, TestEnd
from stockade.core.model.selector import And, Equal, Selector
from stockade.core.plan.parties import Party, World
from stockade.core.plan.permitted import Run, permitted, runs
from stockade.core.plan.portset import PortSet, joined, written_out
from stockade.core.plan.talk import Talk
from stockade.core.plan.values import InvariantResult, TestResult

HYPOTHETICAL = "a workload with "


def tests(world: World) -> tuple[TestResult, ...]:
    """Run every policy's tests on workloads with exactly the labels that they name, and what the scope demands."""
    return tuple(_run(world, policy, test) for policy in world.snapshot.policy.policies for test in policy.tests)


def invariants(talk: Talk) -> tuple[InvariantResult, ...]:
    """Check every invariant over one hop, between all parties of a world."""
    policy, found = talk.world.snapshot.policy, []
    for each in policy.invariants:
        counterexample = next(
            _breaches(
                talk,
                each.holds.source,
                each.holds.destination,
                written_out(policy, each.holds.on),
                never=isinstance(each.holds, Never),
            ),
            "",
        )
        found.append(InvariantResult(each.name, each.where, not counterexample, counterexample))
    return tuple(found)


def _breaches(talk: Talk, source: Selector, destination: Selector, on: PortSet, *, never: bool) -> Iterator[str]:
    """An invariant may tell apart what no rule does, so that its ends are looked for within parties."""
    parties = talk.world.parties.values()
    senders = [(each.text, who) for each in parties if (who := tuple(_forbidden(each, source, never=never)))]
    for target in parties:
        reached = [each for each in target.workloads if _is(each, destination)]
        for sender, who in senders if reached else ():
            pair = _pair(who, reached)
            if pair and (open_ports := talk.permitted((sender, target.text)) & on):
                yield f"{pair[0]} → {pair[1]} {open_ports.text()}"


def _forbidden(sender: Party, source: Selector, *, never: bool) -> Iterator[tuple[str, WorkloadId | None]]:
    """Yield who of a party must not reach it: those who are meant, or, of ``only``, all others."""
    for each in sender.workloads:
        if _is(each, source) is never:
            yield each.name, each.id
    if not sender.workloads and not never:
        yield sender.text, None


def _pair(senders: Iterable[tuple[str, WorkloadId | None]], reached: list[Workload]) -> tuple[str, str] | None:
    """Return the first two that are not one and the same."""
    pairs = ((name, to.name) for name, id_ in senders for to in reached if id_ != to.id)
    return next(pairs, None)


def _is(workload: Workload, selector: Selector) -> bool:
    return workload.known and select.matches(selector, workload.labels, workload.name)


def _run(world: World, policy: Policy, test: PolicyTest) -> TestResult:
    source, destination = (_party(world, policy, end) for end in (test.source, test.destination))
    on = written_out(world.snapshot.policy, (test.on,))
    found = [run for run in runs(world.book, source, destination) if joined([run.ports]) & on]
    allowed = on == on & permitted(found)
    some = bool(on & permitted(found))
    passed = allowed if test.expect is Expectation.ALLOW else not some
    text = f"{_text(test.source)} → {_text(test.destination)} {on.text()} {test.expect.value}"
    return TestResult(policy.name, test.where, text, test.expect, passed, "" if passed else _because(found, some=some))


def _because(found: list[Run], *, some: bool) -> str:
    rules = sorted({str(run.rule) for run in found if run.allowed and run.rule})
    if some:
        return f"allowed by {', '.join(rules)}" if rules else "allowed: the mode of both ends denies nothing"
    denying = sorted({str(s.line.rule) for run in found for s in (run.leaves, run.enters) if not s.allowed and s.line})
    return f"denied by {', '.join(denying)}" if denying else "denied: no rule allows it"


def _party(world: World, policy: Policy, end: TestEnd) -> Party:
    if end.address is not None:
        return world.party_at(str(ipaddress.ip_address(end.address)))
    wanted = dict(_demanded(policy.scope)) | dict(end.labels)
    name = wanted.pop("name", "")
    labels = Labels(tuple(Label(key, value) for key, value in sorted(wanted.items())))
    seen = Sighting(WorkloadId("hypothetical"), name, WorkloadKind.CONTAINER)
    workload = Workload(seen, labels)
    return Party(HYPOTHETICAL + _text(end), (workload,), program_for(world.book, workload))


def _demanded(scope: Selector) -> Iterator[tuple[str, str]]:
    """Yield the labels without which nothing lies inside a scope."""
    if isinstance(scope, Equal):
        yield scope.key, scope.value
    elif isinstance(scope, And):
        for part in scope.of:
            yield from _demanded(part)


def _text(end: TestEnd) -> str:
    return str(end.address) if end.address else " ".join(f"{key}={value}" for key, value in end.labels)
