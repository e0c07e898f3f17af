"""Playbooks: what happens goes in, what is to be done comes out. Virtual time, no loop."""

import msgspec
import pytest

from stockade.agent.births import PATIENCE
from stockade.agent.enforcing import RETRY, RETRY_AT_MOST, Way, owners_of
from stockade.agent.introducing import LIKELY, in_turn
from stockade.agent.machine import Machine, changed_hands
from stockade.agent.telling import RESEND
from stockade.agent.values import (
    Assigned,
    Command,
    Commit,
    Committed,
    Drifted,
    Elapsed,
    Failed,
    Forget,
    Greeted,
    Heard,
    HostObserved,
    KeepBirths,
    Observe,
    Observed,
    Remark,
    Save,
    Say,
    SetTimer,
    SourceSaid,
    Sweep,
    Timer,
    Unheard,
)
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.decide import enforces
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.event import HostSeen, PolicyActivated, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import Address, HostId, Revision, Version, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births, PolicySet, Where
from stockade.core.policy import complete
from stockade.core.reconcile import settled, steps, text
from stockade.seams.neighbours import Introduction
from stockade.seams.runtime import Gone, Listed, Lost, Seen
from stockade.testing.inventories import HOST_A
from stockade.testing.kernel import FakeKernel
from stockade.testing.scenarios import SCENARIOS, container, host, host_itself
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


def admitted(commands: tuple[Command, ...]) -> list[Introduction]:
    return [each for commit in commands if isinstance(commit, Commit) for each in commit.admitted]


def reports(commands: tuple[Command, ...]) -> list[Report]:
    return [each.message for each in commands if isinstance(each, Say) and isinstance(each.message, Report)]


def outcomes(commands: tuple[Command, ...]) -> list[Outcome]:
    return [each.message for each in commands if isinstance(each, Say) and isinstance(each.message, Outcome)]


def listed(*sightings: object) -> SourceSaid:
    return SourceSaid("docker", Listed(tuple(Seen(each, 1.0) for each in sightings)))


def whole(generation: int = 0, sources: tuple[str, ...] = ("docker",)) -> Machine:
    """A machine that a controller has greeted."""
    machine = Machine(LOOK.host.id, sources)
    assert machine.handle(Greeted(generation), 0.0) == ()
    return machine


def heard(report: Report) -> Heard:
    return Heard(report, report.generation)


def through(machine: Machine, assigned: Intent, observed: Ruleset = NOTHING, now: float = 10.0) -> tuple[Command, ...]:
    """Carry an assignment to its end; return all commands. ``observed``: what the kernel holds, if it is read."""
    commands = last = machine.handle(Assigned(Assignment(assigned)), now)
    if said(last, Observe):
        commands += (last := machine.handle(Observed(observed), now))
    while said(last, Commit):
        commands += (last := machine.handle(Committed(), now))
    return commands


# What goes up


def test_nothing_is_reported_before_every_source_has_listed() -> None:
    machine = whole(generation=1, sources=("docker", "lab"))
    assert machine.handle(LOOK, 1.0) == ()
    assert machine.handle(listed(WEB), 1.0) == ()
    assert reports(machine.handle(SourceSaid("lab", Lost("not there yet")), 1.0)) == []
    (report,) = reports(machine.handle(SourceSaid("lab", Listed(())), 1.0))
    assert (report.generation, len(report.events)) == (2, 3)
    assert {type(event) for event in report.events} == {HostSeen, WorkloadSeen}


def test_a_host_that_nobody_knows_is_reported_though_a_source_cannot_be_reached() -> None:
    machine = whole(generation=0, sources=("docker", "lab"))
    machine.handle(LOOK, 1.0)
    machine.handle(SourceSaid("lab", Listed(())), 1.0)
    (report,) = reports(machine.handle(SourceSaid("docker", Lost("no engine")), 1.0))
    assert [type(event) for event in report.events] == [HostSeen, WorkloadSeen]


def test_nothing_is_reported_before_a_controller_answers() -> None:
    machine = Machine(LOOK.host.id, ("docker",))
    machine.handle(LOOK, 1.0)
    assert machine.handle(listed(WEB), 1.0) == ()
    (report,) = reports(machine.handle(Greeted(7), 1.0))
    assert (report.generation, report.whole) == (8, True)


def test_one_report_is_under_way_and_the_next_holds_what_changed_meanwhile() -> None:
    machine = whole(generation=7)
    machine.handle(LOOK, 1.0)
    (first,) = reports(machine.handle(listed(WEB), 1.0))
    assert (first.generation, first.whole) == (8, True)
    assert reports(machine.handle(SourceSaid("docker", Seen(API, 2.0)), 2.0)) == []
    assert reports(machine.handle(SourceSaid("docker", Gone(WEB.id, 2.0)), 2.0)) == []
    (report,) = reports(machine.handle(heard(first), 2.0))
    assert (report.generation, report.whole) == (9, False)
    assert report.events == (WorkloadGone(WEB.id), WorkloadSeen(msgspec.structs.replace(API, sources=("docker",))))


@pytest.mark.parametrize("again", ["timer", "greeting"])
def test_a_report_that_nobody_acknowledged_is_sent_again_the_same(again: str) -> None:
    machine = whole()
    machine.handle(LOOK, 1.0)
    commands = machine.handle(listed(WEB), 1.0)
    (first,) = reports(commands)
    assert said(commands, SetTimer) == [SetTimer(Timer.REPORT, RESEND)]
    assert machine.handle(Unheard(first), 1.0) == (SetTimer(Timer.REPORT, RESEND),)
    event = Elapsed(Timer.REPORT) if again == "timer" else Greeted(0)
    assert reports(machine.handle(event, 0.5)) == [first]
    machine.handle(heard(first), 2.0)
    assert machine.handle(Elapsed(Timer.REPORT), 3.0) == ()


def test_a_report_whose_acknowledgement_was_lost_is_not_sent_again() -> None:
    machine = whole()
    machine.handle(LOOK, 1.0)
    (first,) = reports(machine.handle(listed(WEB), 1.0))
    assert machine.handle(Greeted(first.generation), 2.0) == ()


@pytest.mark.parametrize("stored", [3, 12])
def test_a_controller_that_was_set_back_or_heard_somebody_else_is_told_everything(stored: int) -> None:
    machine = whole(generation=7)
    machine.handle(LOOK, 1.0)
    machine.handle(heard(reports(machine.handle(listed(WEB), 1.0))[0]), 1.0)
    (report,) = reports(machine.handle(Greeted(stored), 2.0))
    assert (report.generation, report.whole, len(report.events)) == (max(stored, 8) + 1, True, 3)


def test_a_source_that_is_lost_loses_nobody_and_what_it_lists_no_more_is_gone() -> None:
    machine = whole()
    machine.handle(LOOK, 1.0)
    machine.handle(heard(reports(machine.handle(listed(WEB, API), 1.0))[0]), 1.0)
    lost = machine.handle(SourceSaid("docker", Lost("hung up")), 2.0)
    assert [each.event for each in said(lost, Remark)] == ["source-lost"]
    assert reports(lost) == []
    (report,) = reports(machine.handle(listed(API), 3.0))
    assert report.events == (WorkloadGone(WEB.id),)


def test_an_outcome_that_nobody_heard_is_sent_again_and_the_newest_only() -> None:
    machine = whole()
    (first,) = outcomes(through(machine, intent(revision=5)))
    assert said(machine.handle(Unheard(first), 1.0), SetTimer) == [SetTimer(Timer.OUTCOME, RESEND)]
    assert outcomes(machine.handle(Elapsed(Timer.OUTCOME), 1.0)) == [first]
    (second,) = outcomes(through(machine, intent(2, revision=6)))
    machine.handle(Heard(first, 0), 2.0)
    assert outcomes(machine.handle(Greeted(0), 2.0)) == [second]
    machine.handle(Heard(second, 0), 2.0)
    assert outcomes(machine.handle(Elapsed(Timer.OUTCOME), 3.0)) == []


def test_a_controller_that_may_be_new_is_told_again_what_is_in_force_and_no_birth_twice() -> None:
    machine = at_home()
    for each in BORN:
        machine.handle(SourceSaid("docker", Seen(each, 2.0)), 2.0)
    (outcome,) = outcomes(through(machine, JUDGED, now=3.0))
    assert outcome.births
    machine.handle(Heard(outcome, 0), 3.0)
    assert outcomes(machine.handle(Greeted(0), 4.0)) == [msgspec.structs.replace(outcome, births=())]


# What comes down


def test_the_kernel_is_read_before_it_is_changed_and_the_outcome_told_after() -> None:
    machine = whole()
    assert [type(each) for each in machine.handle(Assigned(Assignment(intent())), 1.0)] == [Observe]
    commands = machine.handle(Observed(NOTHING), 1.0)
    steps = 0
    while commits := said(commands, Commit):
        assert outcomes(commands) == said(commands, Save) == []
        steps += 1
        last = commits[0].ahead is not None
        commands = machine.handle(Committed(), 2.0)
        assert last == (not said(commands, Commit))
    assert steps >= 2
    (outcome,) = outcomes(commands)
    assert (outcome.revision, outcome.error) == (5, "")
    assert said(commands, Sweep)
    assert said(commands, Save) == [Save(intent())]
    assert machine.realised == intent()


def test_what_is_in_force_already_is_adopted_without_a_word_to_the_kernel() -> None:
    machine = whole()
    machine.handle(from_disk(intent()), 1.0)
    commands = machine.handle(Observed(render(intent())), 1.0)
    assert said(commands, Commit) == said(commands, Save) == []
    assert len(outcomes(commands)) == 1


def from_disk(kept: Intent, *, superseded: bool = False) -> Assigned:
    return Assigned(Assignment(kept), from_disk=True, superseded=superseded)


def test_what_was_kept_before_what_the_kernel_holds_is_not_wanted_back() -> None:
    machine = whole()
    assert machine.handle(from_disk(intent(), superseded=True), 1.0) == ()
    assert machine.handle(Drifted(), 1.0) == ()
    assert machine.realised is None
    older = machine.handle(Assigned(Assignment(intent(3, revision=4))), 2.0)
    assert said(older, Observe) == []
    assert "stays in force" in outcomes(older)[0].error
    commands = machine.handle(Assigned(Assignment(intent(2, 6))), 2.0)
    assert said(commands, Observe)
    assert said(machine.handle(Observed(render(intent(2, 6))), 2.0), Save) == [Save(intent(2, 6))]


def test_nothing_is_programmed_before_an_assignment_is_there() -> None:
    machine = whole()
    machine.handle(LOOK, 1.0)
    machine.handle(listed(WEB), 1.0)
    assert machine.handle(Drifted("somebody"), 2.0) == (
        Remark("tampered", "somebody changed our tables; they are put right"),
    )
    assert machine.handle(Observed(NOTHING), 2.0) == ()


@pytest.mark.parametrize("back", ["revision", "version"])
def test_an_older_assignment_changes_nothing_and_is_shown(back: str) -> None:
    machine = whole()
    newest = msgspec.structs.replace(intent(revision=5), version=Version(3))
    through(machine, newest)
    older = {"revision": (4, 3), "version": (9, 2)}[back]
    other = msgspec.structs.replace(intent(2, revision=older[0]), version=Version(older[1]))
    commands = machine.handle(Assigned(Assignment(other)), 3.0)
    assert said(commands, Observe) == []
    assert "stays in force" in outcomes(commands)[0].error
    assert machine.realised == newest


def test_another_hosts_assignment_and_another_protocols_are_refused() -> None:
    for wrong, word in (
        (Assignment(msgspec.structs.replace(intent(), host=HostId("host-b"))), "host-b"),
        (Assignment(intent(), protocol=99), "protocol 99"),
    ):
        (outcome,) = outcomes(commands := whole().handle(Assigned(wrong), 1.0))
        assert word in outcome.error
        assert said(commands, Save) == said(commands, Observe) == []


@pytest.mark.parametrize("superseded", [False, True])
def test_what_another_host_kept_keeps_nothing_from_being_assigned(superseded: bool) -> None:
    """As where a machine is a copy of another, its state and all."""
    machine = whole()
    copied = msgspec.structs.replace(intent(revision=9), host=HostId("host-b"))
    assert "host-b" in outcomes(machine.handle(from_disk(copied, superseded=superseded), 1.0))[0].error
    assert said(machine.handle(Assigned(Assignment(intent(revision=5))), 2.0), Observe)


def test_what_is_on_disk_does_not_replace_what_the_controller_said() -> None:
    machine = whole()
    machine.handle(Assigned(Assignment(intent(revision=5))), 1.0)
    assert machine.handle(from_disk(intent(2, revision=4)), 1.0) == ()


def test_a_newer_assignment_during_the_switch_follows_it() -> None:
    machine = whole()
    through(machine, intent())
    commands = machine.handle(Assigned(Assignment(intent(2, 6))), 2.0)
    while len(steps(render(intent(2, 6)), render(intent()))) > len(said(commands, Commit)):
        commands += machine.handle(Committed(), 2.0)
    assert machine.handle(Assigned(Assignment(intent(3, 7))), 2.0) == ()
    commands = machine.handle(Committed(), 2.0)
    assert [each.revision for each in outcomes(commands)] == [6]
    while said(commands, Commit):
        commands = machine.handle(Committed(), 2.0)
    assert [each.revision for each in outcomes(commands)] == [7]
    assert machine.realised == intent(3, 7)


def test_what_is_wanted_by_the_moment_of_the_switch_is_switched_to_once() -> None:
    """Nobody feels what was made for an older one. But whoever is always overtaken would never get anywhere."""
    kernel = FakeKernel(strict=True)
    machine = whole()
    machine.handle(Assigned(Assignment(intent())), 1.0)
    (make, *_) = said(machine.handle(Observed(NOTHING), 1.0), Commit)
    kernel.commit(make.batch)
    machine.handle(Assigned(Assignment(intent(2, 6))), 1.0)
    commands, revisions = machine.handle(Committed(), 1.0), []
    machine.handle(Assigned(Assignment(intent(3, 7))), 1.0)
    while batches := said(commands, Commit):
        kernel.commit(batches[0].batch)
        commands = machine.handle(Committed(), 1.0)
        revisions += [each.revision for each in outcomes(commands)]
    assert revisions == [6, 7]
    assert settled(render(intent(3, 7)), kernel.observe())


@pytest.mark.parametrize("then", ["drifted", "refused"])
def test_what_is_doubted_meanwhile_is_read_and_not_gone_on_from(then: str) -> None:
    machine = whole()
    machine.handle(Assigned(Assignment(intent())), 1.0)
    machine.handle(Observed(NOTHING), 1.0)
    machine.handle(Assigned(Assignment(intent(2, 6))), 1.0)
    if then == "drifted":
        machine.handle(Drifted(), 1.0)
        (commit,) = said(machine.handle(Committed(), 1.0), Commit)
        assert commit.batch == text(steps(render(intent()), NOTHING)[-1])
        assert said(machine.handle(Committed(), 1.0), Observe)
    else:
        machine.handle(Failed("no such set"), 1.0)
        assert said(machine.handle(Elapsed(Timer.RETRY), 2.0), Observe)


def test_what_was_written_is_not_read_again_until_there_is_a_reason_to_doubt_it() -> None:
    machine = whole()
    through(machine, intent())
    commands = machine.handle(Assigned(Assignment(intent(2, 6))), 2.0)
    assert said(commands, Observe) == []
    wanted = [text(step) for step in steps(render(intent(2, 6)), render(intent()))]
    batches = [each.batch for each in said(commands, Commit)]
    while said(commands, Commit):
        commands = machine.handle(Committed(), 2.0)
        batches += [each.batch for each in said(commands, Commit)]
    assert batches == wanted
    machine.handle(Drifted(), 3.0)
    machine.handle(Observed(render(intent(2, 6))), 3.0)
    assert said(machine.handle(Assigned(Assignment(intent(3, 7))), 4.0), Observe) == [], "what was read is known, too"


@pytest.mark.parametrize("then", ["refused", "drifted", "drifted while it was read"])
def test_what_is_doubted_is_read_again(then: str) -> None:
    machine = whole()
    through(machine, intent())
    if then == "refused":
        machine.handle(Assigned(Assignment(intent(2, 6))), 2.0)
        machine.handle(Failed("no such set"), 2.0)
    else:
        assert said(machine.handle(Drifted(), 2.0), Observe)
        if then == "drifted while it was read":
            machine.handle(Drifted(), 2.0)
            assert said(machine.handle(Observed(render(intent())), 2.0), Observe)
    assert said(machine.handle(Elapsed(Timer.RETRY), 3.0), Observe) == ([Observe()] if then == "refused" else [])
    commands = machine.handle(Observed(NOTHING), 3.0)
    assert said(commands, Commit), "and what is missing is made anew"


def test_a_refusal_keeps_what_was_in_force_and_is_tried_again_later_and_later() -> None:
    machine = whole()
    machine.handle(Assigned(Assignment(intent())), 1.0)
    pauses = []
    for _ in range(12):
        machine.handle(Observed(NOTHING), 1.0)
        commands = machine.handle(Failed("no space"), 1.0)
        assert [each.error for each in outcomes(commands)] == ["no space"]
        assert machine.realised is None
        pauses += [each.seconds for each in said(commands, SetTimer) if each.timer is Timer.RETRY]
        assert machine.handle(Elapsed(Timer.RETRY), 1.0) == (Observe(),)
    assert pauses[:3] == [RETRY, 2 * RETRY, 4 * RETRY]
    assert pauses[-1] == RETRY_AT_MOST
    commands = machine.handle(Observed(render(intent())), 1.0)
    assert [each.error for each in outcomes(commands)] == [""]
    assert machine.handle(Elapsed(Timer.RETRY), 1.0) == ()


def test_what_cannot_be_written_for_this_kernel_is_an_error_and_changes_nothing() -> None:
    def planning(intent: Intent, held: Ruleset) -> Way:
        raise ValueError("no such family")

    machine = Machine(HOST_A, ("docker",), planning)
    machine.handle(Greeted(0), 1.0)
    machine.handle(Assigned(Assignment(intent())), 1.0)
    commands = machine.handle(Observed(NOTHING), 1.0)
    assert "no such family" in outcomes(commands)[0].error
    assert said(commands, Commit) == []


def test_drift_is_looked_into_and_repaired_without_a_new_outcome() -> None:
    machine = whole()
    machine.handle(Heard(outcomes(through(machine, intent()))[0], 0), 2.0)
    assert machine.handle(Drifted(), 5.0) == (Observe(),)
    assert said(machine.handle(Observed(NOTHING), 5.0), Commit)
    commands = machine.handle(Committed(), 5.0)
    while said(commands, Commit):
        commands = machine.handle(Committed(), 5.0)
    assert outcomes(commands) == []


def test_a_repair_that_failed_and_then_did_not_is_told_both_times() -> None:
    machine = whole()
    through(machine, intent())
    machine.handle(Drifted(), 5.0)
    machine.handle(Observed(NOTHING), 5.0)
    assert [each.error for each in outcomes(machine.handle(Failed("gone"), 5.0))] == ["gone"]
    machine.handle(Elapsed(Timer.RETRY), 6.0)
    assert [each.error for each in outcomes(machine.handle(Observed(render(intent())), 6.0))] == [""]


def test_where_somebody_was_seen_no_rule_is_believed() -> None:
    """A rule may have been replaced by another one with the same comment."""
    machine = whole()
    through(machine, intent())
    remark, look = machine.handle(Drifted("nft (process 12)"), 5.0)
    assert (type(remark), look) == (Remark, Observe())
    (commit,) = said(machine.handle(Observed(render(intent())), 5.0), Commit)
    assert "flush chain inet stockade forwarding" in commit.batch
    machine.handle(Failed("gone"), 5.0)
    machine.handle(Elapsed(Timer.RETRY), 6.0)
    assert said(machine.handle(Observed(render(intent())), 6.0), Commit), "still not believed"
    machine.handle(Committed(), 6.0)
    machine.handle(Drifted(), 7.0)
    assert said(machine.handle(Observed(render(intent())), 7.0), Commit) == []


def test_drift_during_a_change_is_looked_into_afterwards() -> None:
    machine = whole()
    machine.handle(Assigned(Assignment(intent())), 1.0)
    commands = machine.handle(Observed(NOTHING), 1.0)
    assert machine.handle(Drifted(), 1.0) == ()
    while said(commands, Commit):
        commands = machine.handle(Committed(), 1.0)
    assert said(commands, Observe)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("restarted", [False, True])
def test_addresses_that_change_hands_are_forgotten_with_the_switch(seed: int, restarted: bool) -> None:
    one, other = intent(seed, 5), intent(seed + 50, 6)
    machine = whole()
    if restarted:
        machine.handle(from_disk(one, superseded=True), 2.0)
        machine.handle(Assigned(Assignment(other)), 2.0)
        commands = machine.handle(Observed(render(one)), 2.0)
    else:
        through(machine, one)
        commands = machine.handle(Assigned(Assignment(other)), 2.0)
    forgotten: tuple[str, ...] = ()
    while commits := said(commands, Commit):
        forgotten += (*commits[0].forget, *commits[0].left)
        assert not {*commits[0].left} & owners_of(other).keys()
        assert {*commits[0].forget} <= owners_of(other).keys()
        commands = machine.handle(Committed(), 2.0)
    assert sorted(forgotten) == list(changed_hands(one, other))
    assert forgotten
    assert said(commands, Forget) == []
    assert said(commands, Save) == [Save(other)]


def test_an_address_that_changed_hands_before_a_crash_is_forgotten_though_nothing_changes_any_more() -> None:
    one = intent()
    end = next(each for each in one.ends if each.program and each.port)
    reborn = msgspec.structs.replace(end, workload=WorkloadId("docker:host-a:reborn"))
    other = msgspec.structs.replace(
        one, ends=tuple(reborn if each == end else each for each in one.ends), revision=Revision(6), fingerprint="x"
    )
    machine = whole()
    machine.handle(from_disk(one, superseded=True), 2.0)
    machine.handle(Assigned(Assignment(other)), 2.0)
    commands = machine.handle(Observed(render(other)), 2.0)
    assert said(commands, Commit) == []
    assert said(commands, Forget) == [Forget(tuple(sorted(end.addresses)))]


def test_who_is_admitted_is_told_of_its_neighbours_once() -> None:
    shop = SCENARIOS["a shop under policy"]
    one = compile_snapshot(fold(shop))[HOST_A]
    born = compile_snapshot(fold([*shop, container("db-2", 14)]))[HOST_A]
    other = msgspec.structs.replace(born, revision=Revision(99))
    machine = whole()
    assert admitted(through(machine, one)) == [], "whoever was there before has asked long since"
    (introduction,) = admitted(through(machine, other, render(one)))
    assert (introduction.port, introduction.mac, introduction.bridge) == ("veth14", "02:00:00:00:00:0e", "br0")
    neighbours = dict(introduction.neighbours)
    assert neighbours["10.0.0.1"] == "", "the host, by the bridge's own link address"
    assert neighbours["fd00::11"] == "02:00:00:00:00:0b"
    assert not {"10.0.0.14", "192.168.7.1"} & neighbours.keys(), "neither itself nor what is not on this link"
    assert list(neighbours)[:3] == ["10.0.0.1", "10.0.0.12", "fd00::12"], "the host and whom policy names come first"
    assert admitted(through(machine, msgspec.structs.replace(other, revision=Revision(100)))) == []


def test_of_a_crowd_the_likeliest_are_told_at_once() -> None:
    crowd = tuple((Address(f"10.0.1.{number}"), "02:00:00:00:00:01") for number in range(2 * LIKELY))
    one = Introduction("veth1", "02:00:00:00:00:02", (Address("10.0.0.2"),), "br0", crowd)
    few = msgspec.structs.replace(one, neighbours=crowd[:3])
    at_once, later = in_turn((one, few))
    assert [each.neighbours for each in at_once] == [crowd[:LIKELY], crowd[:3]]
    assert [each.neighbours for each in later] == [crowd[LIKELY:]]
    assert [[each.new for each in some] for some in (at_once, later)] == [[True, True], [False]], "announced once"


def test_nobody_is_told_where_nobody_was_kept_from_asking() -> None:
    opened = [*SCENARIOS["a shop under policy"], PolicyActivated(Version(9), complete(PolicySet()))]
    machine = whole()
    through(machine, compile_snapshot(fold(opened))[HOST_A])
    born = compile_snapshot(fold([*opened, container("db-2", 14)]))[HOST_A]
    assert admitted(through(machine, born)) == []
    assert machine.realised == born


# Births


WORLD = fold(world_events(1))
HOME = HostObserved(WORLD.hosts[HOST_A], WORLD.workloads[WORLD.hosts[HOST_A].workload].seen)
JUDGED = intent()
BORN = tuple(
    msgspec.structs.replace(WORLD.workloads[each].seen, created=1.5)
    for each in sorted({end.workload for end in JUDGED.ends if end.program and end.port and end.workload})
)


NOBODY = msgspec.structs.replace(JUDGED, ends=(), revision=Revision(3))


def at_home(*there: object) -> Machine:
    machine = Machine(HOST_A, ("docker",))
    machine.handle(Greeted(0), 1.0)
    machine.handle(HOME, 1.0)
    machine.handle(listed(*there), 1.0)
    return machine


def test_a_birth_is_recorded_once_with_each_moment() -> None:
    machine = at_home()
    for each in BORN:
        machine.handle(SourceSaid("docker", Seen(each, 2.0)), 2.0)
    (outcome,) = outcomes(through(machine, JUDGED, now=3.0))
    assert {each.workload for each in outcome.births} == {each.id for each in BORN}
    assert all(
        (each.created, each.noticed, each.allowed, each.realised) == (1.5, 2.0, 3.0, 3.0) for each in outcome.births
    )
    machine.handle(Heard(outcome, 0), 3.0)
    assert outcomes(through(machine, msgspec.structs.replace(JUDGED, revision=Revision(9)), render(JUDGED), 4.0)) == []


def test_who_is_denied_nothing_was_never_isolated_and_leaked_nothing() -> None:
    programs = {program.id: program for program in JUDGED.programs}
    enforced = {end.workload for end in JUDGED.ends if end.program and enforces(programs[end.program])}
    passing = msgspec.structs.replace(JUDGED, births=Births.PASS)
    for under in (Births.PASS, Births.HOLD):
        machine = at_home()
        through(machine, msgspec.structs.replace(JUDGED, births=under, ends=(), revision=Revision(1)), now=1.2)
        for each in BORN:
            machine.handle(SourceSaid("docker", Seen(each, 2.0)), 2.0)
        (outcome,) = outcomes(through(machine, passing, now=3.0))
        assert outcome.births
        for each in outcome.births:
            late = 3.0 if each.workload in enforced else None
            assert each.isolated == (1.5 if under is Births.HOLD else late)


def test_what_was_there_before_was_not_born() -> None:
    machine = at_home(*BORN)
    assert [each.births for each in outcomes(through(machine, JUDGED))] == [()]


def test_what_was_born_while_no_agent_ran_was_born() -> None:
    known = msgspec.structs.replace(JUDGED, ends=tuple(each for each in JUDGED.ends if each.workload != BORN[0].id))
    machine = Machine(HOST_A, ("docker",))
    machine.handle(from_disk(known), 1.0)
    for event in (Greeted(0), HOME, listed(*BORN)):
        machine.handle(event, 2.0)
    machine.handle(Observed(render(known)), 2.0)
    (outcome,) = outcomes(through(machine, msgspec.structs.replace(JUDGED, revision=Revision(6)), render(known)))
    assert [each.workload for each in outcome.births] == [BORN[0].id]


def test_births_that_nobody_heard_of_come_with_the_next_outcome() -> None:
    machine = at_home()
    machine.handle(SourceSaid("docker", Seen(BORN[0], 2.0)), 2.0)
    (first,) = outcomes(through(machine, JUDGED))
    (second,) = outcomes(through(machine, intent(2, 6)))
    assert first.births
    assert second.births == first.births
    machine.handle(Heard(first, 0), 2.0)
    assert [each.births for each in outcomes(machine.handle(Elapsed(Timer.OUTCOME), 3.0))] == [()]


# Births that take long, and the gate


def test_a_birth_that_takes_long_is_told_of_as_it_is_and_again_when_it_is_over() -> None:
    machine = at_home()
    told = machine.handle(SourceSaid("docker", Seen(BORN[0], 2.0)), 2.0)
    assert said(told, SetTimer).count(SetTimer(Timer.BIRTHS, PATIENCE)) == 1
    through(machine, NOBODY)
    (waiting,) = outcomes(machine.handle(Elapsed(Timer.BIRTHS), 3.0))
    assert [(each.workload, each.allowed) for each in waiting.births] == [(BORN[0].id, None)]
    machine.handle(Heard(waiting, 0), 3.0)
    assert machine.handle(Elapsed(Timer.BIRTHS), 4.0) == (), "once"
    (over,) = outcomes(through(machine, msgspec.structs.replace(JUDGED, revision=Revision(7))))
    assert [(each.workload, each.allowed is not None) for each in over.births] == [(BORN[0].id, True)]


def test_many_births_are_one_telling() -> None:
    machine = at_home()
    timers = [
        each
        for born in BORN
        for each in said(machine.handle(SourceSaid("docker", Seen(born, 2.0)), 2.0), SetTimer)
        if each.timer is Timer.BIRTHS
    ]
    assert len(timers) == 1


def held(machine: Machine, births: Births = Births.HOLD) -> tuple[Command, ...]:
    return through(machine, msgspec.structs.replace(NOBODY, births=births, births_where=Where("modes.yaml", 4, 1)))


def test_nobody_is_born_before_it_is_known_what_is_in_force() -> None:
    machine = Machine(HOST_A, ("docker",))
    assert machine.starting
    assert "not known yet" in machine.refusal()
    held(machine)
    assert not machine.starting
    assert machine.refusal() == ""


def test_what_is_held_is_kept_for_a_gate_without_an_agent_once() -> None:
    machine = at_home()
    assert said(held(machine), KeepBirths) == [KeepBirths(Births.HOLD, Where("modes.yaml", 4, 1))]
    assert said(held(machine), KeepBirths) == []
    assert said(held(machine, Births.PASS), KeepBirths) == [KeepBirths(Births.PASS, Where("modes.yaml", 4, 1))]


@pytest.mark.parametrize(("births", "refused"), [(Births.HOLD, True), (Births.PASS, False)])
def test_what_cannot_be_written_down_is_not_born_where_it_would_be_held(births: Births, refused: bool) -> None:
    machine = whole()
    held(machine, births)
    machine.handle(HOME, 1.0)
    (report,) = reports(machine.handle(listed(BORN[0]), 2.0))
    machine.handle(Unheard(report), 2.0)
    assert machine.refusal() == "", "a controller that is away refuses nobody"
    machine.handle(Unheard(report, "there is no room left"), 3.0)
    assert (machine.refusal() == "it cannot be written down (there is no room left)") is refused
    machine.handle(heard(report), 4.0)
    assert machine.refusal() == ""
