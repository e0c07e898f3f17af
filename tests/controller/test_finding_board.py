"""What a host finds is shown while it is so, and stands in the audit log as it came and went."""

from pathlib import Path

from controlled import HOST, TIERS, host_seen, opened, run

from stockade.controller.findings import CLEARED, RAISED
from stockade.controller.installation import Installation, status
from stockade.controller.metrics import exposition
from stockade.controller.views import findings_view
from stockade.core.graph.anomalies import CHECKS as OF_TRAFFIC
from stockade.core.model.finding import Finding, Severity, Unassessed
from stockade.core.model.ids import CheckId, HostId
from stockade.wire import Findings, Report
from stockade.wire.api import Caller, Role

RULE = Finding(CheckId("routing-rules"), "IPv4 100", Severity.LOW, "table 5", "remove it", 5.0)
OWN = Finding(CheckId("own-tables"), "inet stockade", Severity.HIGH, "nft changed them", "find out", 6.0)
HOOKS = Unassessed(CheckId("hooks"), "not listed")


async def known(installation: Installation) -> None:
    await installation.controller.submit(Report(HOST, 1, (*host_seen(), *TIERS)))
    await installation.controller.publish()


async def log(installation: Installation) -> list[tuple[str, str, str]]:
    entries = installation.controller.store.audit(100)
    found = [each.entry for each in entries[::-1] if each.entry.action in (RAISED, CLEARED)]
    return [(each.action, each.target.split(": ")[1], each.detail) for each in found]


def test_raised_and_cleared_once_each(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await known(installation)
            take = installation.controller.take
            await take(Findings(HOST, (RULE,), (HOOKS,)))
            await take(Findings(HOST, (RULE, OWN), (HOOKS,)))
            await take(Findings(HOST, (RULE, OWN), (HOOKS,)))
            await take(Findings(HOST, (RULE,), (HOOKS,)))
            assert await log(installation) == [
                (RAISED, "routing-rules", "table 5"),
                (RAISED, "own-tables", "nft changed them"),
                (CLEARED, "own-tables", "nft changed them"),
            ]

    run(scenario())


def test_what_came_and_went_between_two_messages_is_logged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await known(installation)
            await installation.controller.take(Findings(HOST, (), (), (OWN,)))
            await installation.controller.take(Findings(HOST, (OWN,)))
            await installation.controller.take(Findings(HOST, (OWN,), (), (OWN,)))
            assert [action for action, _, _ in await log(installation)] == [RAISED, CLEARED, RAISED, CLEARED, RAISED]

    run(scenario())


def test_a_restarted_controller_raises_nothing_twice_and_clears_what_has_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await known(installation)
            await installation.controller.take(Findings(HOST, (RULE, OWN)))
        async with opened(tmp_path) as installation:
            await installation.controller.publish()
            assert findings_view(installation.controller.findings, [HOST]).findings == ()
            await installation.controller.take(Findings(HOST, (RULE,)))
            assert [each[:2] for each in await log(installation)] == [
                (RAISED, "own-tables"),
                (RAISED, "routing-rules"),
                (CLEARED, "own-tables"),
            ] or [each[:2] for each in await log(installation)] == [
                (RAISED, "routing-rules"),
                (RAISED, "own-tables"),
                (CLEARED, "own-tables"),
            ]

    run(scenario())


def test_worst_first_and_a_silent_host_is_not_clean(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await known(installation)
            board = installation.controller.findings
            silent = findings_view(board, [HOST])
            assert (silent.findings, [each.host for each in silent.unassessed]) == ((), [HOST])
            await installation.controller.take(Findings(HOST, (RULE, OWN), (HOOKS,)))
            shown = findings_view(board, [HOST, HostId("host-b")])
            assert [each.check for each in shown.findings] == ["own-tables", "routing-rules"]
            assert {(each.host, each.check) for each in shown.unassessed} == {(HOST, "hooks"), ("host-b", "")}

    run(scenario())


def test_status_and_metrics_count_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await known(installation)
            await installation.controller.take(Findings(HOST, (RULE, OWN), (HOOKS,)))
            reply = await status(installation, Caller(name="ada", uid=0, role=Role.READ))
            assert reply.findings == ((Severity.HIGH, 1), (Severity.LOW, 1))
            assert reply.unassessed == 1 + len(OF_TRAFFIC), "no flows are kept here: nothing of traffic is assessed"
            text = exposition(installation.controller).decode()
            assert 'stockade_findings{check="own-tables",host="host-a",severity="high"} 1.0' in text
            assert 'stockade_checks_unassessed{host="host-a"} 1.0' in text

    run(scenario())


def test_what_a_host_finds_before_it_was_reported_is_kept(tmp_path: Path) -> None:
    """It is told once: nobody would tell it again."""

    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await installation.controller.take(Findings(HOST, (OWN,)))
            await known(installation)
            shown = findings_view(installation.controller.findings, [HOST])
            assert [each.check for each in shown.findings] == ["own-tables"]

    run(scenario())


def test_a_host_that_is_no_more_has_no_findings(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await known(installation)
            await installation.controller.take(Findings(HOST, (OWN,)))
            installation.controller.findings.forget([HOST])
            assert findings_view(installation.controller.findings, []).findings == ()

    run(scenario())
