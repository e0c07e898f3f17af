"""The controller's loop: stored before seen, told only where it matters, and the same after a restart."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from controlled import (
    ADA,
    FILES,
    HOST,
    TIERS,
    StandingClock,
    applied,
    container,
    furnished,
    host_seen,
    obey,
    opened,
    run,
)
from controlled import report as reported

from stockade.controller.http.handlers import HANDLERS
from stockade.controller.labels import set_labels
from stockade.controller.loop import Controller, following
from stockade.controller.refused import Refused
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.fold import fold
from stockade.core.model.event import WorkloadGone
from stockade.core.model.ids import HostId, Revision, Version, WorkloadId
from stockade.core.model.snapshot import Snapshot
from stockade.errors import StockadeError
from stockade.seams.store import Commit, Conflict
from stockade.wire import BirthRecord, Counters, Outcome, Report
from stockade.wire.api import OffRequest, RollbackRequest


def same(one: Snapshot, other: Snapshot) -> bool:
    """Compare by content: mappings may be of different kinds."""
    return one._replace(hosts={}, workloads={}, operator_labels={}) == other._replace(
        hosts={}, workloads={}, operator_labels={}
    ) and all(
        dict(getattr(one, name)) == dict(getattr(other, name)) for name in ("hosts", "workloads", "operator_labels")
    )


def test_a_new_installation_has_the_built_in_policy_as_version_0(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            snapshot = installation.controller.snapshot
            assert snapshot.version == 0
            assert [each.mode.value for each in snapshot.policy.modes] == ["visibility"]
            assert snapshot.policy.services
            assert (await installation.lifecycle.stored(Version(0))).author == "stockade"
        async with opened(tmp_path) as installation:
            assert installation.controller.snapshot.revision == snapshot.revision, "begun once"

    run(scenario())


def test_what_was_reported_is_labelled_and_assigned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            web = controller.snapshot.workloads[WorkloadId("docker:host-a:web-1")]
            assert (web.labels.get("app"), web.labels.get("role")) == ("shop", "web")
            assigned = await controller.assignment(HOST)
            assert assigned is not None
            assert assigned.intent.host == HOST
            assert await controller.assignment(HOST, assigned.intent.fingerprint) is None

    run(scenario())


def test_a_report_counts_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            first = Report(HOST, 1, (*host_seen(), TIERS[0]))
            assert await controller.submit(first) == 1
            revision = controller.snapshot.revision
            assert await controller.submit(first) == 1
            assert await controller.submit(Report(HOST, 1, (TIERS[1],))) == 1
            assert controller.snapshot.revision == revision
            assert len(controller.snapshot.workloads) == 2
        async with opened(tmp_path) as installation:
            assert installation.controller.generation(HOST) == 1
            assert await installation.controller.submit(Report(HOST, 1, (TIERS[1],))) == 1
            assert len(installation.controller.snapshot.workloads) == 2

    run(scenario())


def test_what_changes_nothing_is_not_stored(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            revision = controller.snapshot.revision
            assert await reported(controller, *host_seen(), *TIERS, WorkloadGone(WorkloadId("never"))) == 2
            assert controller.snapshot.revision == revision
            back_and_forth = (container("web-1", 99, "web"), TIERS[0])
            await reported(controller, *back_and_forth)
            assert controller.snapshot.revision == revision + 2, "each differs from what was before it"

    run(scenario())


def test_a_restart_comes_to_the_same_snapshot(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            await applied(installation)
            await set_labels(controller, "web-1", {"loc": "north"}, ADA)
            await obey(controller)
            before, assigned = controller.snapshot, await controller.assignment(HOST)
        async with opened(tmp_path) as installation:
            assert same(installation.controller.snapshot, before)
            again = await installation.controller.assignment(HOST)
            assert again is not None
            assert assigned is not None
            assert again.intent.ends == assigned.intent.ends

    run(scenario())


@pytest.mark.parametrize("every", [1, 3, 100])
def test_checkpoints_change_nothing_but_the_replay(tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: checkpoint + what came after == fold of everything."""

    async def scenario() -> None:
        events = (*host_seen(), *TIERS, container("web-1", 14, "web"), WorkloadGone(TIERS[1].sighting.id))
        async with opened(tmp_path) as installation:
            controller = installation.controller
            for event in events:
                await reported(controller, event)
                await controller._checkpoint(every)
            await set_labels(controller, "db-1", {"env": "prod"}, ADA)
            await applied(installation)
            before = controller.snapshot
            everything = controller.store.events(Revision(0), 10_000)
            assert same(fold(each.event for each in everything), before)
            loaded = controller.store.load()
            assert len(loaded.events) <= every + 2
            assert same(fold((each.event for each in loaded.events), loaded.snapshot), before)
        async with opened(tmp_path) as installation:
            assert same(installation.controller.snapshot, before)

    run(scenario())


def test_incremental_publishing_equals_compiling_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            key = controller.store.secret()
            await furnished(controller)
            steps = [
                lambda: applied(installation),
                lambda: reported(controller, container("web-2", 21, "web")),
                lambda: set_labels(controller, "web-2", {"role": "db"}, ADA),
                lambda: reported(controller, WorkloadGone(TIERS[0].sighting.id), container("web-2", 22, "web")),
                lambda: installation.lifecycle.off(OffRequest(wait=0), ADA),
                lambda: installation.lifecycle.rollback(RollbackRequest(version=Version(1), wait=0), ADA),
            ]
            for step in steps:
                await step()
                await controller.publish()
                assert dict(controller.roster.wanted) == compile_snapshot(controller.snapshot, key)

    run(scenario())


def test_only_touched_hosts_hear_of_a_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            assert (await applied(installation)).waiting == (HOST,)
            await obey(controller)
            fingerprint = controller.roster.wanted[HOST].fingerprint
            more = (*FILES, _file("other.yaml", "app = other"))
            reply = await applied(installation, more)
            assert (reply.realised, reply.waiting) == (True, ()), "it changes nothing there"
            assert controller.roster.wanted[HOST].fingerprint == fingerprint
            assert controller.roster.in_force(HOST) == 2
        async with opened(tmp_path) as installation:
            assert installation.controller.roster.in_force(HOST) == 2

    run(scenario())


def _file(name: str, select: str) -> object:
    from stockade.wire.api import File

    rule = f"    - name: inside\n      allow: {{from: {select}, to: {select}, on: [tcp/1]}}\n"
    head = "apiVersion: stockade.dev/v1\nkind: Policy\nmetadata: {name: other}\n"
    return File(name, f"{head}spec:\n  scope: {select}\n  rules:\n{rule}")


def test_what_cannot_be_stored_never_happened(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            before = controller.snapshot
            with sqlite3.connect(tmp_path / "state.db") as raw:
                raw.execute(
                    "create trigger broken before insert on events begin select raise(abort, 'disk on fire'); end"
                )
            with pytest.raises(StockadeError) as failed:
                await reported(controller, container("web-2", 21, "web"))
            assert "stored" in failed.value.kept
            assert controller.snapshot is before
            assert controller.generation(HOST) == 1
            with pytest.raises(StockadeError):
                await applied(installation)
            assert controller.snapshot is before
            with sqlite3.connect(tmp_path / "state.db") as raw:
                raw.execute("drop trigger broken")
            assert await reported(controller, container("web-2", 21, "web")) == 2
            assert WorkloadId("docker:host-a:web-2") in controller.snapshot.workloads

    run(scenario())


def test_two_controllers_on_one_store_do_not_mix(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as one, opened(tmp_path) as other:
            await furnished(one.controller)
            with pytest.raises(Conflict, match="somebody else wrote"):
                await reported(other.controller, container("web-2", 21, "web"))
            assert not other.controller.snapshot.workloads

    run(scenario())


def test_a_policy_that_cannot_be_compiled_leaves_hosts_as_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            wanted = controller.roster.wanted[HOST]
            working = controller.parts

            def failing(*_: object) -> dict[HostId, object]:
                raise StockadeError("too many identities")

            controller.parts = _with(working, compile=failing)
            await reported(controller, container("web-2", 21, "web"))
            assert controller.stalled == "too many identities"
            assert controller.roster.wanted[HOST] is wanted
            controller.parts = working
            await reported(controller, container("web-3", 22, "web"))
            assert controller.stalled == ""
            assert len(controller.roster.wanted[HOST].ends) == 6

    run(scenario())


def _with(parts: object, **changed: object) -> object:
    import msgspec

    return msgspec.structs.replace(parts, **changed)  # type: ignore[type-var]


def test_following_publishes_by_itself_and_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            async with following(controller):
                await controller.submit(Report(HOST, 1, (*host_seen(), *TIERS)))
                first = await controller.assignment(HOST, wait=10)
                assert first is not None
                waiting = asyncio.create_task(_next(controller, first.intent.fingerprint))
                await controller.submit(Report(HOST, 2, (container("web-2", 21, "web"),)))
                assert len((await waiting).ends) == len(first.intent.ends) + 1
                last = asyncio.create_task(_all(controller, controller.roster.wanted[HOST].fingerprint))
                await asyncio.sleep(0)
            assert await last == []
            assert controller.store.load().events == (), "a checkpoint was left"

    run(scenario())


async def _next(controller: Controller, since: str) -> object:
    assigned = await controller.assignment(HOST, since, 20)
    assert assigned is not None
    return assigned.intent


async def _all(controller: Controller, since: str) -> list[object]:
    return [each async for each in controller.assignments(HOST, since)]


def test_outcomes_and_births_outlive_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            intent = controller.roster.wanted[HOST]
            born = BirthRecord(WorkloadId("docker:host-a:web-1"), "web-1", created=1.0, isolated=1.0, allowed=1.02)
            await controller.note(Outcome(HOST, intent.revision, intent.version, intent.fingerprint, "", (born,)))
            await controller.note(Outcome(HOST, intent.revision, intent.version, intent.fingerprint, "no memory"))
            await controller.note(Outcome(HOST, intent.revision, intent.version, intent.fingerprint, "no memory"))
            assert controller.births.of[""].count == 1
        async with opened(tmp_path) as installation:
            controller = installation.controller
            known = controller.roster.realised[HOST]
            assert (known.version, known.error) == (0, "no memory")
            assert [each.record for each in controller.store.births(9)] == [born]
            failures = [each.entry for each in controller.store.audit(99) if each.entry.outcome == "failed"]
            assert [(each.target, each.detail) for each in failures] == [("host-a", "no memory")], "said once"

    run(scenario())


def test_counters_are_kept_as_they_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            await furnished(controller)
            assert await controller.take(Counters(HOST, tracked=5, tracked_limit=10)) == 1
            assert controller.roster.counters[HOST].tracked == 5

    run(scenario())


def test_a_step_ends_though_whoever_asked_has_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            controller = installation.controller
            asked = asyncio.create_task(controller.submit(Report(HOST, 1, host_seen())))
            await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await controller.exclusively(lambda: controller.commit(Commit()))
            assert HOST in controller.snapshot.hosts
            assert controller.store.load().generations == {HOST: 1}

    run(scenario())


def test_operator_labels(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, StandingClock()) as installation:
            controller = installation.controller
            await furnished(controller)
            after = await set_labels(controller, "web-1", {"role": "db", "env": "prod"}, ADA)
            assert after.labels.get("role") == "db"
            assert [(each.key, each.value) for each in after.conflicts] == [("role", "web")]
            (entry,) = controller.store.audit(1)
            assert (entry.entry.who, entry.entry.action, entry.entry.detail) == ("ada", "labels", "env=prod role=db")
            after = await set_labels(controller, "web-1", {}, ADA)
            assert after.labels.get("role") == "web"
            for wrong in ({"name": "x"}, {"a b": "x"}, {"a": ""}, {f"k{n}": "v" for n in range(99)}):
                with pytest.raises(Refused):
                    await set_labels(controller, "web-1", wrong, ADA)
            with pytest.raises(Refused, match='no workload "web-9"'):
                await set_labels(controller, "web-9", {}, ADA)

    run(scenario())


def test_every_route_with_a_reply_has_a_handler() -> None:
    from stockade.wire.routes import ROUTES

    assert set(HANDLERS) == {each.name for each in ROUTES if each.reply is not None}
