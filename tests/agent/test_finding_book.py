"""Findings: raised when first seen, cleared when gone, told until heard, and nothing untold."""

import msgspec

from stockade.agent.findings import REMEMBERED, RESEND, FindingBook
from stockade.agent.machine import Machine
from stockade.agent.values import (
    Assigned,
    Command,
    Committed,
    Drifted,
    Elapsed,
    Greeted,
    Heard,
    Inspected,
    Observed,
    Say,
    SetTimer,
    Timer,
    Unheard,
)
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.finding import Assessment, Finding, Severity, Unassessed
from stockade.core.model.ids import CheckId, HostId
from stockade.core.posture.host import Facts, RoutingRule, Unread
from stockade.testing.inventories import HOST_A
from stockade.testing.worlds import world_events
from stockade.wire import Assignment, Findings

HOST = HostId("host-a")
RULE = Finding(CheckId("routing-rules"), "IPv4 100", Severity.LOW, "table 5", "remove it")
UNKNOWN = Unassessed(CheckId("hooks"), "not listed")
CLEAN = Assessment((), (UNKNOWN,))
FACTS = Facts(
    tables=(),
    legacy=(),
    unlisted=(),
    traffic=(),
    programs=(),
    rules=(),
    local=(),
    ports=(),
    bridges=(),
    switches=(),
    tracked=(0, 1),
    hooks=Unread("not listed"),
    files=(),
)


def told(commands: tuple[Command, ...]) -> list[Findings]:
    return [each.message for each in commands if isinstance(each, Say) and isinstance(each.message, Findings)]


def one(commands: tuple[Command, ...]) -> Findings:
    (message,) = told(commands)
    return message


def clean() -> FindingBook:
    """A book whose first look was told and heard."""
    book = FindingBook(HOST)
    assert book.heard(one(book.inspected(CLEAN, 0.0))) == ()
    return book


def test_nothing_is_told_before_everything_was_looked_at() -> None:
    book = FindingBook(HOST)
    assert book.tampered("nft", 1.0) == ()
    message = one(book.inspected(CLEAN, 2.0))
    assert [(each.check, each.since) for each in message.findings] == [("own-tables", 1.0)]
    assert message.unassessed == (UNKNOWN,)


def test_a_finding_keeps_the_time_at_which_it_began() -> None:
    book = clean()
    message = one(book.inspected(Assessment((RULE,), (UNKNOWN,)), 5.0))
    assert message.findings[0].since == 5.0
    book.heard(message)
    assert book.inspected(Assessment((RULE,), (UNKNOWN,)), 9.0) == ()
    message = one(book.inspected(CLEAN, 10.0))
    assert message.findings == ()
    book.heard(message)
    assert one(book.inspected(Assessment((RULE,), (UNKNOWN,)), 20.0)).findings[0].since == 20.0


def test_one_message_is_under_way_at_a_time_and_the_last_word_is_told() -> None:
    book = clean()
    first = one(book.inspected(Assessment((RULE,), (UNKNOWN,)), 5.0))
    assert book.inspected(CLEAN, 6.0) == ()
    assert one(book.heard(first)).findings == ()


def test_what_nobody_heard_is_told_again() -> None:
    book = clean()
    book.inspected(Assessment((RULE,), ()), 5.0)
    assert book.unheard() == (SetTimer(Timer.FINDINGS, RESEND),)
    assert one(book.again()).findings[0].check == RULE.check


def test_a_controller_that_has_forgotten_is_told_everything() -> None:
    assert one(clean().forgotten()).unassessed == (UNKNOWN,)


def test_who_changed_our_tables_is_shown_a_while_after_they_were_put_right() -> None:
    book = clean()
    message = one(book.tampered("nft (process 7)", 5.0))
    book.heard(message)
    *_, timer = commands = book.mended(5.002)
    assert timer == SetTimer(Timer.MENDED, REMEMBERED)
    message = one(commands)
    assert message.findings[0].seen == "nft (process 7) changed them; put right after 2 ms"
    book.heard(message)
    assert one(book.settled()).findings == ()


def test_what_is_not_put_right_stays() -> None:
    book = clean()
    book.heard(one(book.tampered("nft", 5.0)))
    assert book.settled() == ()


def test_a_second_change_leaves_the_first_untold_nowhere() -> None:
    book = clean()
    first = one(book.tampered("one", 5.0))
    book.tampered("two", 5.001)
    book.tampered("three", 5.002)
    second = one(book.heard(first))
    assert [each.seen for each in second.passed] == ["one changed them", "two changed them"]
    assert second.findings[0].seen == "three changed them"
    book.heard(second)
    assert one(book.mended(6.0)).passed == ()


def test_a_clock_that_goes_back_shows_no_negative_span() -> None:
    book = clean()
    book.tampered("nft", 5.0)
    book.mended(1.0)
    assert "put right after 0 ms" in one(book.again()).findings[0].seen


# Within the machine


def enforcing() -> tuple[Machine, Ruleset]:
    """A machine with an intent in force, and what the kernel holds by it."""
    intent = compile_snapshot(fold(world_events(1)))[HOST_A]
    machine = Machine(HOST_A, ())
    machine.handle(Greeted(0), 0.0)
    machine.handle(Heard(one(machine.handle(Inspected(FACTS), 0.0)), 0), 0.0)
    machine.handle(Assigned(Assignment(intent)), 1.0)
    machine.handle(Observed(Ruleset()), 1.0)
    for _ in range(5):
        machine.handle(Committed(), 1.0)
    assert machine.realised is not None
    return machine, render(intent)


def put_right(machine: Machine, held: Ruleset, seen: float, done: float) -> tuple[Command, ...]:
    """Let the machine see what the kernel holds, and grant every transaction until it tells of it."""
    commands = machine.handle(Observed(held), seen)
    for _ in range(5):
        if told(commands):
            break
        commands = machine.handle(Committed(), done)
    return commands


def test_coming_into_force_is_no_tampering() -> None:
    machine, _ = enforcing()
    facts = msgspec.structs.replace(FACTS, rules=(RoutingRule(4, 9, "table 9"),))
    assert [each.check for each in one(machine.handle(Inspected(facts), 2.0)).findings] == ["routing-rules"]


def test_a_change_is_told_with_its_author_and_when_it_was_put_right() -> None:
    machine, held = enforcing()
    message = one(machine.handle(Drifted("nft (process 7)"), 5.0))
    assert message.findings[0].seen == "nft (process 7) changed them"
    machine.handle(Heard(message, 0), 5.0)
    commands = put_right(machine, held, 5.001, 5.004)
    assert "put right after 4 ms" in one(commands).findings[0].seen
    machine.handle(Heard(one(commands), 0), 6.0)
    assert one(machine.handle(Elapsed(Timer.MENDED), 40.0)).findings == ()


def test_a_change_that_nobody_was_seen_to_make_is_told_as_such() -> None:
    machine, held = enforcing()
    machine.handle(Drifted(), 5.0)
    inet = held.tables[0]
    chains = {**inet.chains, "incoming": msgspec.structs.replace(inet.chains["incoming"], rules=())}
    torn = Ruleset((msgspec.structs.replace(inet, chains=chains), *held.tables[1:]))
    commands = put_right(machine, torn, 5.0, 5.0)
    assert one(commands).findings[0].seen.startswith("somebody who was not seen changed them; put right after")


def test_a_look_that_finds_all_as_it_was_is_no_finding() -> None:
    machine, held = enforcing()
    machine.handle(Drifted(), 5.0)
    assert told(machine.handle(Observed(held), 5.0)) == []


def test_what_was_not_heard_is_told_after_a_while() -> None:
    machine, _ = enforcing()
    message = one(machine.handle(Drifted("nft"), 5.0))
    assert SetTimer(Timer.FINDINGS, RESEND) in machine.handle(Unheard(message), 5.0)
    assert one(machine.handle(Elapsed(Timer.FINDINGS), 7.0)) == message
