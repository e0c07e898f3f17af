"""The life of policy versions: checked whole, immutable, numbered, audited, and back by themselves unless confirmed."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from controlled import (
    ADA,
    FILES,
    HOST,
    MODES,
    SHOP,
    StandingClock,
    applied,
    container,
    furnished,
    obey,
    opened,
    report,
    run,
)
from msgspec.structs import replace

from stockade.controller.installation import Installation, status
from stockade.controller.lifecycle import Change
from stockade.controller.refused import Refused, Why
from stockade.controller.views import workload_views
from stockade.core.model.event import WorkloadSeen
from stockade.core.model.ids import Version, WorkloadId
from stockade.core.model.inventory import Attachment
from stockade.core.model.policy import Births, Mode
from stockade.core.oracle import mode
from stockade.errors import StockadeError
from stockade.wire.api import ApplyRequest, ConfirmRequest, File, ModeRequest, OffRequest, PlanRequest, RollbackRequest

OPEN = (File("shop.yaml", SHOP.partition("  tests:")[0]),)
"""The shop without its tests, under no mode: nothing is dropped."""
LATE = "2023-11-14T22:13:30Z"
"""Ten seconds after ``StandingClock`` begins."""
QUARANTINE = f"""\
apiVersion: stockade.dev/v1
kind: Quarantine
metadata: {{name: web-1}}
spec: {{select: name = web-1, reason: outbound scan, until: {LATE}}}
"""
NARROWER = """\
apiVersion: stockade.dev/v1
kind: NetworkSet
metadata: {name: payments}
spec: {fqdns: [api.payments.example]}
"""


def modes_of(installation: Installation) -> dict[str, Mode]:
    snapshot = installation.controller.snapshot
    return {each.name: mode(snapshot, each) for each in snapshot.workloads.values()}


def audited(installation: Installation) -> list[tuple[str, str, str]]:
    return [(e.entry.who, e.entry.action, e.entry.outcome) for e in installation.controller.store.audit(99)]


async def refused(installation: Installation, files: tuple[File, ...], **more: object) -> Refused:
    before = installation.controller.snapshot
    with pytest.raises(Refused) as refusal:
        await applied(installation, files, **more)
    assert installation.controller.snapshot is before
    assert installation.controller.unconfirmed is None
    assert audited(installation)[0] == ("ada", "apply", "refused")
    return refusal.value


def test_plan_then_apply_what_was_planned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            plan = await installation.lifecycle.plan(PlanRequest(files=FILES))
            assert plan.id
            assert not plan.refused
            assert installation.controller.snapshot.version == 0, "a plan changes nothing"
            request = ApplyRequest(files=FILES, expect=plan.id, note="contain the shop", wait=0)
            reply = await installation.lifecycle.apply(request, ADA)
            assert (reply.version.number, reply.version.author, reply.version.note) == (1, "ada", "contain the shop")
            assert reply.plan == plan
            assert not reply.realised
            assert modes_of(installation)["web-1"] is Mode.FULL
            await obey(installation.controller)
            assert installation.controller.roster.in_force(HOST) == 1
            stored = await installation.lifecycle.stored(Version(1))
            assert [each.text for each in stored.files] == [MODES, SHOP]
            assert audited(installation)[0] == ("ada", "apply", "done")

    run(scenario())


def test_applying_what_is_active_makes_no_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await applied(installation)
            reply = await applied(installation)
            assert (reply.unchanged, reply.version.number) == (True, 1)
            assert installation.controller.snapshot.version == 1

    run(scenario())


def test_files_with_mistakes_are_refused_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            broken = File("shop.yaml", SHOP.replace("[postgres]", "[postgress]"))
            refusal = await refused(installation, (FILES[0], broken))
            assert refusal.why is Why.INVALID
            (problem,) = refusal.problems
            assert (problem.where.file, problem.where.line, problem.nearest) == ("shop.yaml", 10, "postgres")
            plan = await installation.lifecycle.plan(PlanRequest(files=(FILES[0], broken)))
            assert plan.problems == refusal.problems

    run(scenario())


def test_a_failing_test_refuses(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            opened_wide = SHOP.replace("from: role = api, to: role = db", "from: all, to: role = db")
            refusal = await refused(installation, (FILES[0], File("shop.yaml", opened_wide)))
            assert "test failed" in refusal.message
            assert "stays in force" in refusal.kept

    run(scenario())


def test_a_broken_invariant_refuses(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            spec = "{never: role = web, reaches: role = api}"
            text = f"apiVersion: stockade.dev/v1\nkind: Invariant\nmetadata: {{name: apart}}\nspec: {spec}\n"
            refusal = await refused(installation, (*FILES, File("apart.yaml", text)))
            assert "invariant apart broken" in refusal.message

    run(scenario())


def test_what_cannot_be_enforced_needs_consent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            files = (*FILES, File("payments.yaml", NARROWER))
            refusal = await refused(installation, files)
            assert "--accept-narrower" in refusal.remedy
            assert "FQDN" in refusal.problems[0].message
            reply = await applied(installation, files, accept_narrower=True)
            assert reply.version.number == 1
            sets = installation.controller.snapshot.policy.network_sets
            assert [each.fqdns for each in sets if each.name == "payments"] == [()]

    run(scenario())


def test_a_workload_that_no_point_can_enforce_is_refused_full(tmp_path: Path) -> None:
    """macvlan, ipvlan and the like: named with the reason, whether documents or ``mode`` ask for it."""

    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            seen = container("web-9", 99, "web")
            beside = replace(seen.sighting.endpoints[0], attachment=Attachment.OPAQUE, bridge="")
            await report(installation.controller, WorkloadSeen(replace(seen.sighting, endpoints=(beside,))))
            refusal = await refused(installation, FILES)
            assert "--accept-narrower" in refusal.remedy
            assert ["web-9 cannot be full" in each.message for each in refusal.problems] == [True]
            full = ModeRequest(select="app = shop", mode=Mode.FULL, wait=0)
            with pytest.raises(Refused, match="cannot be enforced here"):
                await installation.lifecycle.mode(full, ADA)
            assert installation.controller.snapshot.version == 0
            assert (await installation.lifecycle.mode(replace(full, accept_narrower=True), ADA)).version.number == 1
            elsewhere = ModeRequest(select="app = other", mode=Mode.FULL, wait=0)
            assert (await installation.lifecycle.mode(elsewhere, ADA)).version.number == 2, "it was accepted before"

    run(scenario())


def test_another_plan_than_the_one_seen_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            plan = await installation.lifecycle.plan(PlanRequest(files=FILES))
            refusal = await refused(installation, FILES[:1], yes=False, expect=plan.id)
            assert refusal.why is Why.CONFLICT
            await applied(installation, OPEN)
            refusal = await refused(installation, FILES, yes=False, expect=plan.id)
            assert "the active version changed" in refusal.message
            refusal = await refused(installation, FILES, yes=False)
            assert refusal.why is Why.MALFORMED

    run(scenario())


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.5, 3601.0, float("nan"), float("inf")])
def test_confirm_is_bounded(tmp_path: Path, seconds: float) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            assert "out of bounds" in (await refused(installation, FILES, confirm=seconds)).message

    run(scenario())


def test_an_unconfirmed_version_returns_by_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await furnished(installation.controller)
            await applied(installation, OPEN)
            reply = await applied(installation, confirm=60)
            assert reply.pending is not None
            assert (reply.pending.version, reply.pending.returns_to) == (2, 1)
            clock.pass_(59)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 2
            clock.pass_(2)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 3
            assert modes_of(installation)["web-1"] is Mode.VISIBILITY
            stored = await installation.lifecycle.stored(Version(3))
            assert (stored.author, stored.restores) == ("stockade", 1)
            assert "version 2 was not confirmed" in stored.note
            assert installation.controller.unconfirmed is None
            assert audited(installation)[0] == ("stockade", "return", "done")
            clock.pass_(1000)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 3

    run(scenario())


def test_a_confirmed_version_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation, confirm=60)
            with pytest.raises(Refused, match="version 1 waits to be confirmed, not 9"):
                await installation.lifecycle.confirm(ConfirmRequest(version=Version(9)), ADA)
            reply = await installation.lifecycle.confirm(ConfirmRequest(version=Version(1)), ADA)
            assert (reply.version.number, reply.pending) == (1, None)
            clock.pass_(100)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 1
            with pytest.raises(Refused, match="no version waits"):
                await installation.lifecycle.confirm(ConfirmRequest(), ADA)

    run(scenario())


@pytest.mark.parametrize("down", [10, 1000])
def test_confirmation_survives_a_restart(tmp_path: Path, down: float) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation, confirm=60)
        clock.pass_(down)
        clock.steady = 5.0  # another boot
        async with opened(tmp_path, clock) as installation:
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == (2 if down > 60 else 1)
            clock.pass_(51)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 2
            assert modes_of(installation) == {}
            assert [each.name for each in installation.controller.snapshot.policy.policies] == []

    run(scenario())


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_jump_of_the_wall_clock_moves_no_deadline(tmp_path: Path, jump: float) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation, confirm=60)
            clock.wall += jump
            clock.steady += 30
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 1
            clock.steady += 31
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 2

    run(scenario())


def test_a_jump_while_down_does_not_put_off_the_return_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation, confirm=60)
        clock.wall -= 10 * 365 * 86_400
        async with opened(tmp_path, clock) as installation:
            clock.steady += 3601
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 2

    run(scenario())


def test_a_confirmation_at_the_last_moment_wins(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            lifecycle, controller = installation.lifecycle, installation.controller
            await applied(installation, confirm=60)
            clock.pass_(61)
            async with controller._lock:  # both are asked for while another step is under way
                kept = asyncio.create_task(lifecycle.confirm(ConfirmRequest(), ADA))
                await asyncio.sleep(0)
                returning = asyncio.create_task(lifecycle.tick())
                await asyncio.sleep(0.2)
            assert (await kept).pending is None
            with pytest.raises(Refused, match="was confirmed"):
                await returning
            await lifecycle.tick()
            assert (controller.snapshot.version, controller.unconfirmed) == (1, None)

    run(scenario())


def test_what_fell_due_is_done_in_the_background(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            controller = installation.controller
            await applied(installation, confirm=60)
            time = asyncio.create_task(installation.lifecycle.watch_time())
            clock.pass_(61)
            controller.changed.ring()
            while controller.snapshot.version != 2:
                await asyncio.sleep(0.01)
            controller.closing.set()
            controller.changed.ring()
            await time

    run(scenario())


def test_a_refusal_is_told_even_where_it_cannot_be_audited(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            with sqlite3.connect(tmp_path / "state.db") as raw:
                raw.execute("create trigger broken before insert on audit begin select raise(abort, 'full'); end")
            with pytest.raises(Refused, match="1 problem"):
                await applied(installation, (File("x.yaml", "kind: ["),))

    run(scenario())


def test_a_second_unconfirmed_version_returns_to_the_last_confirmed(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation, confirm=60)
            reply = await applied(installation, OPEN, confirm=60)
            assert reply.pending is not None
            assert (reply.pending.version, reply.pending.returns_to) == (2, 0)
            clock.pass_(61)
            await installation.lifecycle.tick()
            assert (await installation.lifecycle.stored(Version(3))).restores == 0

    run(scenario())


def test_a_version_without_confirm_settles_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation, confirm=60)
            await applied(installation, OPEN)
            clock.pass_(61)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.version == 2

    run(scenario())


def test_a_return_that_cannot_be_stored_is_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation, confirm=60)
            with sqlite3.connect(tmp_path / "state.db") as raw:
                raw.execute("create trigger broken before insert on events begin select raise(abort, 'full'); end")
            clock.pass_(61)
            with pytest.raises(StockadeError):
                await installation.lifecycle.tick()
            assert installation.controller.unconfirmed is not None
            with sqlite3.connect(tmp_path / "state.db") as raw:
                raw.execute("drop trigger broken")
            await installation.lifecycle.tick()
            assert (installation.controller.snapshot.version, installation.controller.unconfirmed) == (2, None)

    run(scenario())


def test_rollback_is_a_new_version_with_the_old_content(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await applied(installation)
            await applied(installation, OPEN)
            reply = await installation.lifecycle.rollback(RollbackRequest(version=Version(1), wait=0), ADA)
            first, third = (
                await installation.lifecycle.stored(Version(1)),
                await installation.lifecycle.stored(Version(3)),
            )
            assert (reply.version.number, reply.version.restores) == (3, 1)
            assert (third.policy, third.files, third.hash) == (first.policy, first.files, first.hash)
            assert installation.controller.snapshot.policy == first.policy
            with pytest.raises(Refused, match='no version "99"'):
                await installation.lifecycle.rollback(RollbackRequest(version=Version(99)), ADA)

    run(scenario())


def test_rollback_can_wait_for_confirmation(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        async with opened(tmp_path, clock) as installation:
            await applied(installation)
            await applied(installation, OPEN)
            await installation.lifecycle.rollback(RollbackRequest(version=Version(1), confirm=60, wait=0), ADA)
            clock.pass_(61)
            await installation.lifecycle.tick()
            assert (await installation.lifecycle.stored(Version(4))).restores == 2

    run(scenario())


def test_mode_adds_a_document_and_replaces_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            await applied(installation)
            lifecycle = installation.lifecycle
            await lifecycle.mode(ModeRequest(select="role = db", mode=Mode.VISIBILITY, wait=0), ADA)
            assert modes_of(installation) == {
                "api-1": Mode.FULL,
                "db-1": Mode.VISIBILITY,
                "host-a": Mode.VISIBILITY,
                "web-1": Mode.FULL,
            }
            await lifecycle.mode(ModeRequest(select="role=db", mode=Mode.SELECTIVE, births=Births.PASS, wait=0), ADA)
            assert modes_of(installation)["db-1"] is Mode.SELECTIVE
            stored = await lifecycle.stored(Version(3))
            assert len(stored.files) == 3
            assert stored.note == "role=db: selective"
            with pytest.raises(Refused, match='"==" is no sign'):
                await lifecycle.mode(ModeRequest(select="role == db", mode=Mode.FULL), ADA)

    run(scenario())


def test_mode_works_on_a_new_installation_and_with_any_selector(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            selector = "app = \"it's: #1, {x} 'y'\" or role in (web, api)"
            await installation.lifecycle.mode(ModeRequest(select=selector, mode=Mode.FULL, wait=0), ADA)
            assert modes_of(installation)["web-1"] is Mode.FULL

    run(scenario())


def test_off_opens_everything_and_keeps_the_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            await applied(installation, (*FILES, File("q.yaml", QUARANTINE)))
            await installation.lifecycle.mode(ModeRequest(select="all", mode=Mode.FULL, wait=0), ADA)
            reply = await installation.lifecycle.off(OffRequest(note="help", wait=0), ADA)
            snapshot = installation.controller.snapshot
            assert set(modes_of(installation).values()) == {Mode.VISIBILITY}
            assert snapshot.policy.quarantines == ()
            assert installation.controller.roster.wanted[HOST].births is Births.PASS
            assert [each.name for each in snapshot.policy.policies] == ["shop"]
            assert (reply.version.number, reply.version.note) == (3, "help")
            assert audited(installation)[0] == ("ada", "off", "done")
            await installation.lifecycle.mode(ModeRequest(select="app = shop", mode=Mode.FULL, wait=0), ADA)
            assert modes_of(installation)["host-a"] is Mode.VISIBILITY, "off outlives the next change"

    run(scenario())


def test_off_is_not_held_up_by_tests_and_invariants(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            spec = "{never: role = web, reaches: role = db}"
            text = f"apiVersion: stockade.dev/v1\nkind: Invariant\nmetadata: {{name: apart}}\nspec: {spec}\n"
            await applied(installation, (*FILES, File("apart.yaml", text)))
            await installation.lifecycle.off(OffRequest(wait=0), ADA)
            assert set(modes_of(installation).values()) == {Mode.VISIBILITY}

    run(scenario())


def test_off_is_a_version_even_where_all_is_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            reply = await installation.lifecycle.off(OffRequest(wait=0), ADA)
            assert reply.version.number == 1

    run(scenario())


def test_a_quarantine_lapses_in_time_and_a_past_one_never_cuts(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = StandingClock()
        files = (*FILES, File("q.yaml", QUARANTINE))
        async with opened(tmp_path, clock) as installation:
            await furnished(installation.controller)
            await applied(installation, files)
            clock.pass_(9)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.lapsed == frozenset()
            clock.pass_(2)
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.lapsed == {"web-1"}
            assert audited(installation)[0] == ("stockade", "lapse", "done")
            revision = installation.controller.snapshot.revision
            await installation.lifecycle.tick()
            assert installation.controller.snapshot.revision == revision
            await applied(installation, FILES)
            await applied(installation, files)
            assert installation.controller.snapshot.lapsed == {"web-1"}, "in the same step"

    run(scenario())


def test_a_version_that_came_in_between_is_not_overwritten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            active = installation.controller.snapshot
            await applied(installation, OPEN)
            late = Change("apply", ADA, installation.controller.parts.read(()), (), "")
            with pytest.raises(Refused, match="version 1 became active, or was confirmed, in between"):
                await installation.lifecycle._store(late, active, None)

    run(scenario())


BOX = """\
apiVersion: stockade.dev/v1
kind: Workload
metadata: {name: till}
spec: {labels: {app: shop, role: db}, addresses: [192.0.2.40]}
"""


def peers(installation: Installation) -> set[str]:
    intent = installation.controller.roster.wanted[HOST]
    return {address for each in intent.peers for address in each.addresses}


def test_declared_workloads_are_versioned_with_the_policy(tmp_path: Path) -> None:
    async def scenario() -> None:
        till = WorkloadId("workload:till")
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            await applied(installation, (*FILES, File("till.yaml", BOX)))
            await applied(installation, (*FILES, File("till.yaml", BOX.replace("2.40", "2.41"))))
            assert peers(installation) & {"192.0.2.40", "192.0.2.41"} == {"192.0.2.41"}
            await installation.lifecycle.rollback(RollbackRequest(version=Version(1), wait=0), ADA)
            assert peers(installation) & {"192.0.2.40", "192.0.2.41"} == {"192.0.2.40"}
            await applied(installation, FILES)
            assert till not in installation.controller.snapshot.workloads
            await applied(installation, (*FILES, File("till.yaml", BOX)))
            before = installation.controller.snapshot
            await installation.controller.close()
        async with opened(tmp_path) as again:
            assert again.controller.snapshot.workloads == before.workloads
            assert peers(again) & {"192.0.2.40", "192.0.2.41"} == {"192.0.2.40"}

    run(scenario())


def test_status_shows_an_address_of_a_document_that_a_host_reports_as_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            await applied(installation, (*FILES, File("till.yaml", BOX.replace("2.40", "2.10"))))
            (contest,) = (await status(installation, ADA)).contests
            assert (contest.workload, contest.address, contest.holder, contest.host) == (
                "workload:till",
                "192.0.2.10",
                "host-a",
                None,
            )
            assert (contest.where.file, contest.where.line) == ("till.yaml", 4)
            (view,) = [
                each
                for each in workload_views(installation.controller.snapshot, installation.controller.roster)
                if each.id == "workload:till"
            ]
            assert (view.addresses, view.mode, view.written) == ((), None, contest.where)

    run(scenario())
