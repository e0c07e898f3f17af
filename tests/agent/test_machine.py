"""Playbooks: what happens goes in, what is to be done comes out. Virtual time, no loop."""

import msgspec
import pytest

from stockade.agent.machine import RESEND, RETRY, Machine, changed_hands
from stockade.agent.values import (
    Acknowledged,
    Assigned,
    Command,
    Commit,
    Committed,
    Drifted,
    Failed,
    HostObserved,
    Observe,
    Observed,
    Remark,
    Save,
    Say,
    SourceSaid,
    Sweep,
    Tick,
    Wake,
)
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.event import HostSeen, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import Revision
from stockade.core.model.intent import Intent
from stockade.seams.runtime import Gone, Listed, Lost, Seen
from stockade.testing.inventories import HOST_A
from stockade.testing.scenarios import container, host, host_itself
from stockade.testing.worlds import world_events
from stockade.wire import Assignment, Outcome, Report

NOTHING = Ruleset()
WEB, API = container("web", 11).sighting, container("api", 12).sighting
LOOK = HostObserved(host().host, host_itself().sighting)


def intent(seed: int = 1, revision: int = 5) -> Intent:
    found = compile_snapshot(fold(world_events(seed)))[HOST_A]
    return msgspec.structs.replace(found, revision=Revision(revision))


def said(commands: tuple[Command, ...], kind: type) -> list[Command]:
    return [each for each in commands if isinstance(each, kind)]


def reports(commands: tuple[Command, ...]) -> list[Report]:
    return [each.message for each in commands if isinstance(each, Say) and isinstance(each.message, Report)]


def outcomes(commands: tuple[Command, ...]) -> list[Outcome]:
    return [each.message for each in commands if isinstance(each, Say) and isinstance(each.message, Outcome)]


def listed(*sightings: object) -> SourceSaid:
    return SourceSaid("docker", Listed(tuple(Seen(each, 1.0) for each in sightings)))


def whole(generation: int = 0) -> Machine:
    return Machine(LOOK.host.id, ("docker",), generation)


def through(machine: Machine, assigned: Intent, observed: Ruleset = NOTHING, now: float = 10.0) -> tuple[Command, ...]:
    """Carry an assignment to its end; return the last commands."""
    machine.handle(Assigned(Assignment(assigned)), now)
    commands = machine.handle(Observed(observed), now)
    while said(commands, Commit):
        commands = machine.handle(Committed(), now)
    return commands


def test_nothing_is_reported_before_every_source_has_listed() -> None:
    machine = whole()
    assert machine.handle(LOOK, 1.0) == ()
    (report,) = reports(machine.handle(listed(WEB), 1.0))
    assert (report.generation, len(report.events)) == (1, 3)
    assert {type(event) for event in report.events} == {HostSeen, WorkloadSeen}


def test_one_report_is_under_way_and_the_next_holds_what_changed_meanwhile() -> None:
    machine = whole(generation=7)
    machine.handle(LOOK, 1.0)
    assert reports(machine.handle(listed(WEB), 1.0))[0].generation == 8
    assert reports(machine.handle(SourceSaid("docker", Seen(API, 2.0)), 2.0)) == []
    assert reports(machine.handle(SourceSaid("docker", Gone(WEB.id, 2.0)), 2.0)) == []
    (report,) = reports(machine.handle(Acknowledged(8), 2.0))
    assert report.generation == 9
    assert report.events == (WorkloadGone(WEB.id), WorkloadSeen(API))


def test_a_report_that_nobody_acknowledged_is_sent_again_the_same() -> None:
    machine = whole()
    machine.handle(LOOK, 1.0)
    (first,) = reports(machine.handle(listed(WEB), 1.0))
    assert reports(machine.handle(Tick(), 1.0 + RESEND / 2)) == []
    assert reports(machine.handle(Tick(), 1.0 + RESEND)) == [first]


def test_a_source_that_is_lost_loses_nobody_and_what_it_lists_no_more_is_gone() -> None:
    machine = whole()
    machine.handle(LOOK, 1.0)
    machine.handle(listed(WEB, API), 1.0)
    machine.handle(Acknowledged(1), 1.0)
    lost = machine.handle(SourceSaid("docker", Lost("hung up")), 2.0)
    assert [each.event for each in said(lost, Remark)] == ["source-lost"]
    assert reports(lost) == []
    (report,) = reports(machine.handle(listed(API), 3.0))
    assert report.events == (WorkloadGone(WEB.id),)


def test_the_kernel_is_read_before_it_is_changed_and_the_outcome_told_after() -> None:
    machine = whole()
    assert [type(each) for each in machine.handle(Assigned(Assignment(intent())), 1.0)] == [Save, Observe]
    commands = machine.handle(Observed(NOTHING), 1.0)
    steps = 0
    while commits := said(commands, Commit):
        assert outcomes(commands) == []
        steps += 1
        last = commits[0].ahead is not None
        commands = machine.handle(Committed(), 2.0)
        assert last == (not said(commands, Commit))
    assert steps >= 2
    (outcome,) = outcomes(commands)
    assert (outcome.revision, outcome.error) == (5, "")
    assert said(commands, Sweep)
    assert machine.realised == intent()


def test_what_is_in_force_already_is_adopted_without_a_word_to_the_kernel() -> None:
    machine = whole()
    machine.handle(Assigned(Assignment(intent()), from_disk=True), 1.0)
    commands = machine.handle(Observed(render(intent())), 1.0)
    assert said(commands, Commit) == []
    assert len(outcomes(commands)) == 1


def test_an_older_assignment_changes_nothing() -> None:
    machine = whole()
    through(machine, intent(revision=5))
    assert [type(each) for each in machine.handle(Assigned(Assignment(intent(2, revision=4))), 3.0)] == [Remark]


def test_a_refusal_keeps_what_was_in_force_and_is_tried_again_later_and_later() -> None:
    machine = whole()
    machine.handle(Assigned(Assignment(intent())), 1.0)
    machine.handle(Observed(NOTHING), 1.0)
    commands = machine.handle(Failed("no space"), 1.0)
    assert [each.error for each in outcomes(commands)] == ["no space"]
    assert machine.realised is None
    assert said(commands, Wake) == [Wake(1.0 + RETRY)]
    assert machine.handle(Tick(), 1.0 + RETRY / 2) == ()
    assert said(machine.handle(Tick(), 1.0 + RETRY), Observe)
    machine.handle(Observed(NOTHING), 2.0)
    assert said(machine.handle(Failed("no space"), 2.0), Wake) == [Wake(2.0 + 2 * RETRY)]


def test_drift_is_looked_into_and_repaired_without_a_new_outcome() -> None:
    machine = whole()
    through(machine, intent())
    assert machine.handle(Drifted(), 5.0) == (Observe(),)
    assert said(machine.handle(Observed(NOTHING), 5.0), Commit)
    commands = machine.handle(Committed(), 5.0)
    while said(commands, Commit):
        commands = machine.handle(Committed(), 5.0)
    assert outcomes(commands) == []


def test_drift_during_a_change_is_looked_into_afterwards() -> None:
    machine = whole()
    machine.handle(Assigned(Assignment(intent())), 1.0)
    commands = machine.handle(Observed(NOTHING), 1.0)
    assert machine.handle(Drifted(), 1.0) == ()
    while said(commands, Commit):
        commands = machine.handle(Committed(), 1.0)
    assert said(commands, Observe)


def test_a_birth_is_recorded_once_with_each_moment() -> None:
    world = fold(world_events(1))
    found = compile_snapshot(world)[HOST_A]
    born = [world.workloads[end.workload] for end in found.ends if end.program and end.workload]
    mine = [each.seen for each in born if each.seen.kind.value == "container"]
    machine = Machine(HOST_A, ("docker",))
    machine.handle(HostObserved(world.hosts[HOST_A], world.workloads[world.hosts[HOST_A].workload].seen), 1.0)
    machine.handle(SourceSaid("docker", Listed(tuple(Seen(each, 1.0) for each in mine))), 2.0)
    (outcome,) = outcomes(through(machine, found, now=3.0))
    assert {each.workload for each in outcome.births} == {each.id for each in mine}
    assert all((each.noticed, each.allowed, each.realised) == (2.0, 3.0, 3.0) for each in outcome.births)
    assert outcomes(through(machine, msgspec.structs.replace(found, revision=Revision(9)), render(found), 4.0)) == []


@pytest.mark.parametrize("seed", range(5))
def test_addresses_that_change_hands_are_forgotten_with_the_switch(seed: int) -> None:
    one, other = intent(seed, 5), intent(seed + 50, 6)
    machine = whole()
    through(machine, one)
    machine.handle(Assigned(Assignment(other)), 2.0)
    commands = machine.handle(Observed(render(one)), 2.0)
    forgotten: tuple[str, ...] = ()
    while commits := said(commands, Commit):
        forgotten += commits[0].forget
        commands = machine.handle(Committed(), 2.0)
    assert forgotten == changed_hands(one, other)
