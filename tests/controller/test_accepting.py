"""A finding that somebody accepts is set aside and shown; it is open again once more is found, or its time is over."""

from pathlib import Path

import pytest
from controlled import ADA, HOST, TIERS, StandingClock, host_seen, opened, run

from stockade.controller.accepting import FARTHEST, LONGEST, accept, reopen
from stockade.controller.finding_views import every_finding
from stockade.controller.findings import ACCEPTED, EVERYWHERE, REOPENED
from stockade.controller.installation import Installation, status
from stockade.controller.metrics import exposition
from stockade.controller.refused import Refused
from stockade.core.model.finding import Finding, Severity, finding_id
from stockade.core.model.ids import CheckId, FindingId, HostId
from stockade.errors import StockadeError
from stockade.wire import Findings, Report
from stockade.wire.api import AcceptRequest, FindingsReply, ReopenRequest

RULE = Finding(CheckId("routing-rules"), "IPv4 100", Severity.LOW, "table 5", "remove it", 5.0)
OWN = Finding(CheckId("own-tables"), "inet stockade", Severity.HIGH, "nft changed them", "find out", 6.0)
SCAN = Finding(CheckId("scan"), "lab:web", Severity.MEDIUM, "tried 16 targets", "look", 7.0, ("db", "dns"))
RULE_ID = finding_id(HOST, RULE.check, RULE.object)


async def found(installation: Installation, *findings: Finding) -> None:
    await installation.controller.submit(Report(HOST, 1, (*host_seen(), *TIERS)))
    await installation.controller.publish()
    await installation.controller.take(Findings(HOST, findings))


async def take(installation: Installation, id_: FindingId = RULE_ID, until: float | None = None) -> None:
    await accept(installation.controller, AcceptRequest(id=id_, why="the VPN's", until=until), ADA)


def shown(installation: Installation) -> tuple[list[str], list[str]]:
    """What is open and what is accepted, by their checks."""
    reply: FindingsReply = every_finding(installation.controller)
    return [each.check for each in reply.findings], [each.check for each in reply.accepted]


def logged(installation: Installation) -> list[tuple[str, str, str]]:
    entries = (each.entry for each in installation.controller.store.audit(100)[::-1])
    return [(each.who, each.action, each.detail) for each in entries if each.action in (ACCEPTED, REOPENED)]


def test_accepted_it_is_set_aside_shown_and_logged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await found(installation, RULE, OWN)
            assert [each.id for each in every_finding(installation.controller).findings][1] == RULE_ID
            await take(installation)
            assert shown(installation) == (["own-tables"], ["routing-rules"])
            (each,) = every_finding(installation.controller).accepted
            assert (each.by, each.why, each.until) == ("ada", "the VPN's", None)
            assert each.finding is not None
            assert each.finding.seen == "table 5"
            reply = await status(installation, ADA)
            assert (reply.findings, reply.accepted) == (((Severity.HIGH, 1),), 1)
            text = exposition(installation.controller).decode()
            assert 'stockade_findings_accepted{check="routing-rules",host="host-a",severity="low"} 1.0' in text
            assert 'stockade_findings{check="routing-rules"' not in text
            assert logged(installation) == [("ada", ACCEPTED, "the VPN's")]

    run(scenario())


def test_reopened_it_is_open_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await found(installation, RULE)
            await take(installation)
            await reopen(installation.controller, ReopenRequest(id=RULE_ID, why="no VPN any more"), ADA)
            assert shown(installation) == (["routing-rules"], [])
            assert logged(installation)[-1] == ("ada", REOPENED, "no VPN any more")
            with pytest.raises(Refused, match="accepted finding"):
                await reopen(installation.controller, ReopenRequest(id=RULE_ID), ADA)

    run(scenario())


def test_it_outlives_the_controller_and_what_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await found(installation, RULE)
            await take(installation)
        async with opened(tmp_path) as installation:
            assert [each.finding for each in every_finding(installation.controller).accepted] == [None]
            await installation.controller.take(Findings(HOST, (RULE,)))
            assert shown(installation) == ([], ["routing-rules"])
            await installation.controller.take(Findings(HOST))
            await installation.controller.take(Findings(HOST, (RULE,)))
            assert shown(installation) == ([], ["routing-rules"])

    run(scenario())


@pytest.mark.parametrize(
    "more",
    [
        Finding(RULE.check, RULE.object, Severity.LOW, "table 6", "remove it", 5.0),
        Finding(RULE.check, RULE.object, Severity.HIGH, "table 5", "remove it", 5.0),
    ],
    ids=["another thing", "worse"],
)
def test_more_than_was_accepted_is_open_again(tmp_path: Path, more: Finding) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await found(installation, RULE)
            await take(installation)
            await installation.controller.take(Findings(HOST, (RULE,)))
            assert shown(installation) == ([], ["routing-rules"])
            await installation.controller.take(Findings(HOST, (more,)))
            assert shown(installation) == (["routing-rules"], [])
            who, action, detail = logged(installation)[-1]
            assert (who, action) == ("stockade", REOPENED)
            assert "more was found" in detail
            assert "the VPN's" in detail
        async with opened(tmp_path) as installation:
            assert every_finding(installation.controller).accepted == (), "it stays open after a restart"

    run(scenario())


def test_numbers_that_move_are_nothing_more(tmp_path: Path) -> None:
    """What it is about counts: less of it, or the same in other words, is covered; anything besides is not."""

    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await found(installation)
            say = installation.controller.take
            await say(Findings(EVERYWHERE, (SCAN,)))
            await take(installation, finding_id(EVERYWHERE, SCAN.check, SCAN.object))
            await say(Findings(EVERYWHERE, (Finding(*_with("tried 90 targets", ("db",))),)))
            assert shown(installation) == ([], ["scan"])
            await say(Findings(EVERYWHERE, (Finding(*_with("tried 90 targets", ("backup", "db"))),)))
            assert shown(installation) == (["scan"], [])

    run(scenario())


def _with(seen: str, about: tuple[str, ...]) -> tuple[CheckId, str, Severity, str, str, float, tuple[str, ...]]:
    return SCAN.check, SCAN.object, SCAN.severity, seen, SCAN.remedy, SCAN.since, about


def test_its_time_ends_by_the_clock_also_while_nothing_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await found(installation, RULE)
            await take(installation, until=clock.now() + 3600)
            await installation.lifecycle.tick()
            assert shown(installation) == ([], ["routing-rules"])
        clock.pass_(3601)
        async with opened(tmp_path, clock) as installation:
            await installation.lifecycle.tick()
            assert logged(installation)[-1][:2] == ("stockade", REOPENED)
            await installation.controller.take(Findings(HOST, (RULE,)))
            assert shown(installation) == (["routing-rules"], [])

    run(scenario())


def test_accepted_anew_the_later_word_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await found(installation, RULE)
            await take(installation, until=clock.now() + 10)
            await take(installation, until=None)
            clock.pass_(20)
            await installation.lifecycle.tick()
            assert shown(installation) == ([], ["routing-rules"])

    run(scenario())


def test_what_cannot_be_accepted(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await found(installation, RULE)
            for why, until, match in (
                ("  ", None, "why"),
                ("x" * (LONGEST + 1), None, "characters"),
                ("x", clock.now(), "later than now"),
                ("x", float("nan"), "later than now"),
                ("x", clock.now() + 2 * FARTHEST, "hundred years"),
            ):
                with pytest.raises(StockadeError, match=match):
                    await accept(installation.controller, AcceptRequest(id=RULE_ID, why=why, until=until), ADA)
            with pytest.raises(Refused, match="open finding"):
                await take(installation, FindingId("0" * 12))
            assert shown(installation) == (["routing-rules"], [])
            assert logged(installation) == []

    run(scenario())


def test_what_could_not_be_stored_is_not_accepted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await found(installation, RULE)
            installation.controller.store.close()
            (tmp_path / "state.db").rename(tmp_path / "away.db")
            (tmp_path / "state.db").mkdir()
            with pytest.raises(StockadeError):
                await take(installation)
            assert shown(installation) == (["routing-rules"], [])

    run(scenario())


def test_an_id_is_of_a_host_a_check_and_an_object() -> None:
    check = CheckId("a")
    ids = {
        finding_id(HostId("h"), check, "b"),
        finding_id(HostId("h"), CheckId("ab"), ""),
        finding_id(HostId("ha"), CheckId(""), "b"),
    }
    assert len(ids) == 3
    assert all(len(each) == 12 for each in ids)
