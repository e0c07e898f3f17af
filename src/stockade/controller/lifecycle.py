"""Policy versions: plan, apply, confirm, rollback, mode, off. Nothing else changes enforcement.

A version is checked before anything is stored (documents, what can be enforced, tests, invariants, that it compiles),
then stored with its event and its audit entry in one step. Refusals are audited too.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from stockade.controller.accepting import lapse
from stockade.controller.loop import ITSELF, Controller
from stockade.controller.opened import is_open, opened
from stockade.controller.parts import Draft
from stockade.controller.refused import Refused, Why, unknown
from stockade.controller.switch import mode_file
from stockade.controller.views import pending_view, version_view
from stockade.core.fold import apply as folded
from stockade.core.model.event import Event, PolicyActivated, QuarantineLapsed
from stockade.core.model.ids import Version
from stockade.core.model.policy import Mode, PolicySet
from stockade.core.model.problem import Problem
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.values import Caution, Plan
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.seams.store import Commit, Entry, SourceFile, StoredVersion, StoreFailed, Unconfirmed
from stockade.wire.api import (
    ApplyRequest,
    Caller,
    ConfirmRequest,
    File,
    ModeRequest,
    OffRequest,
    PlanRequest,
    Role,
    RollbackRequest,
    VersionReply,
)

SHORTEST, LONGEST = 1.0, 3600.0
"""Seconds that ``confirm`` may wait."""
LONGEST_WAIT = 60.0
PAIRS = 20
ENFORCING = (Mode.SELECTIVE, Mode.FULL)

T = TypeVar("T")
log = log_of("lifecycle")


class Change(msgspec.Struct, frozen=True):
    """A new version to be made. ``checked``: its tests and invariants must hold."""

    action: str
    by: Caller
    draft: Draft
    files: tuple[SourceFile, ...]
    note: str
    restores: Version | None = None
    confirm: float | None = None
    checked: bool = True
    expect: str = ""
    accept_narrower: bool = False
    wait: float = 0.0
    unless_kept: Unconfirmed | None = None
    """Made only while this still waits to be confirmed."""


class Lifecycle:
    """The life of policy versions over one controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._deadline: float | None = None
        if (waits := controller.unconfirmed) is not None:
            # A wall clock that jumped while nobody looked must not put off the return for ever.
            self._arm(min(max(waits.deadline - controller.clock.now(), 0.0), LONGEST))

    async def plan(self, request: PlanRequest) -> Plan:
        """Say what a draft would change. Documents that do not parse are the plan's problems."""
        draft = await self._read(_sources(request.files))
        if draft.problems:
            return Plan(against=self._controller.snapshot.version, problems=draft.problems)
        return await self._planned(self._controller.snapshot, draft, max(request.pairs, 0))

    async def snapshot_with(self, request: PlanRequest) -> Snapshot:
        """Return what the newest snapshot would be with a draft active. ``Refused`` where it does not parse."""
        return _with(self._controller.snapshot, _sound(await self._read(_sources(request.files))).policy)

    async def apply(self, request: ApplyRequest, by: Caller) -> VersionReply:
        """Make a draft active, or refuse it whole."""
        return await self._audited(by, "apply", lambda: self._apply(request, by))

    async def _apply(self, request: ApplyRequest, by: Caller) -> VersionReply:
        if not (request.yes or request.expect):
            raise Refused(
                Why.MALFORMED,
                "apply needs the id of the plan that was seen, or yes",
                remedy="Ask for a plan first and send its id as `expect`.",
            )
        files = _sources(request.files)
        change = Change(
            "apply",
            by,
            _sound(await self._read(files)),
            files,
            request.note,
            confirm=request.confirm,
            expect=request.expect,
            accept_narrower=request.accept_narrower,
            wait=request.wait,
        )
        return await self._activate(change)

    async def rollback(self, request: RollbackRequest, by: Caller) -> VersionReply:
        """Make an earlier version's content active again, as a new version."""
        return await self._audited(by, "rollback", lambda: self._rollback(request, by))

    async def _rollback(self, request: RollbackRequest, by: Caller) -> VersionReply:
        stored = await self.stored(request.version)
        note = request.note or f"back to version {stored.number}"
        draft = Draft(stored.policy, stored.canonical, stored.hash)
        change = Change("rollback", by, draft, stored.files, note, restores=stored.number, checked=False)
        return await self._activate(msgspec.structs.replace(change, confirm=request.confirm, wait=request.wait))

    async def mode(self, request: ModeRequest, by: Caller) -> VersionReply:
        """Add (or replace) an ``EnforcementMode`` document to what is active."""
        return await self._audited(by, "mode", lambda: self._mode(request, by))

    async def _mode(self, request: ModeRequest, by: Caller) -> VersionReply:
        active = await self.stored(self._controller.snapshot.version)
        added = mode_file(request, active.policy)
        files = (*(each for each in active.files if each.name != added.name), added)
        # What the documents hold that cannot be enforced was accepted when they were applied.
        draft = msgspec.structs.replace(_sound(await self._read(files)), narrower=())
        change = Change(
            "mode",
            by,
            draft,
            files,
            request.note or f"{request.select}: {request.mode.value}",
            confirm=request.confirm,
            # Whoever loosens gives up what tests and invariants ask for, as with `off`; to tighten must not break them.
            checked=request.mode in ENFORCING,
            accept_narrower=request.accept_narrower,
            wait=request.wait,
        )
        return await self._activate(change)

    async def off(self, request: OffRequest, by: Caller) -> VersionReply:
        """Open everything. Not held up by tests or invariants: what they ask for is exactly what is given up."""
        return await self._audited(by, "off", lambda: self._off(request, by))

    async def _off(self, request: OffRequest, by: Caller) -> VersionReply:
        active = await self.stored(self._controller.snapshot.version)
        files = opened(active.files)
        draft = await self._read(files)
        if draft.problems or not is_open(draft.policy):
            files, draft = (), await self._read(())  # opening comes first; the version before has the documents
        note = request.note or "everything open"
        return await self._activate(Change("off", by, draft, files, note, checked=False, wait=request.wait))

    async def confirm(self, request: ConfirmRequest, by: Caller) -> VersionReply:
        """Keep the version that waits."""
        return await self._audited(by, "confirm", lambda: self._controller.exclusively(lambda: self._keep(request, by)))

    async def _keep(self, request: ConfirmRequest, by: Caller) -> VersionReply:
        waits = self._controller.unconfirmed
        if waits is None:
            raise Refused(
                Why.CONFLICT,
                "no version waits to be confirmed",
                kept=f"Version {self._controller.snapshot.version} stays in force.",
                remedy="`stockade history` shows whether the earlier one has returned already.",
            )
        if request.version not in (None, waits.version):
            raise Refused(Why.CONFLICT, f"version {waits.version} waits to be confirmed, not {request.version}")
        audit = Entry(by.name, "confirm", f"version {waits.version}", uid=by.uid)
        await self._controller.commit(Commit(confirmed=True, audit=(audit,)))
        self._deadline = None
        stored = await self.stored(waits.version)
        return VersionReply(version=version_view(stored, waits.version), realised=not self._controller.roster.waiting())

    async def stored(self, number: Version) -> StoredVersion:
        """Return a stored version; ``Refused`` where there is none of that number."""
        found = await asyncio.to_thread(self._controller.store.version, number)
        if found is None:
            raise unknown("version", number, "`stockade history` lists them.")
        return found

    # Time

    async def tick(self) -> None:
        """Do what has fallen due: return from an unconfirmed version, let quarantines and waivers lapse."""
        if self._deadline is not None and self._controller.clock.monotonic() >= self._deadline:
            await self._return()
        if due := _due(self._controller.snapshot, self._controller.clock.now()):
            await self._controller.exclusively(lambda: self._lapse(due))
        await lapse(self._controller)

    async def watch_time(self) -> None:
        """Tick until the controller closes. What could not be stored is tried again."""
        closing = self._controller.closing
        while not closing.is_set():
            try:
                await self.tick()
            except Exception as problem:
                log.error("due and not done", error=str(problem), exc_info=not isinstance(problem, StockadeError))
            await self._controller.changed.wait(self._controller.changed.rung, self._pause())

    def _pause(self) -> float:
        """Return seconds until the next look: short enough that a jump of the clock is noticed."""
        left = 1.0 if self._deadline is None else self._deadline - self._controller.clock.monotonic()
        return min(max(left, 0.01), 1.0)

    def _arm(self, seconds: float) -> None:
        self._deadline = self._controller.clock.monotonic() + seconds

    async def _return(self) -> None:
        """Bring back the confirmed version, as a new one."""
        waits = self._controller.unconfirmed
        if waits is None:
            self._deadline = None
            return
        stored = await self.stored(waits.returns_to)
        note = f"version {waits.version} was not confirmed in time: back to version {stored.number}"
        draft = Draft(stored.policy, stored.canonical, stored.hash)
        itself = Caller(name=ITSELF, uid=0, role=Role.NOBODY)
        change = Change("return", itself, draft, stored.files, note, restores=stored.number, checked=False)
        await self._activate(msgspec.structs.replace(change, unless_kept=waits))

    async def _lapse(self, names: tuple[str, ...]) -> None:
        events: tuple[Event, ...] = tuple(QuarantineLapsed(name) for name in names)
        audit = tuple(Entry(ITSELF, "lapse", f"quarantine {name}") for name in names)
        await self._controller.commit(Commit(events=events, audit=audit))

    # Making a version

    async def _activate(self, change: Change) -> VersionReply:
        controller = self._controller
        confirm = _bounded_confirm(change.confirm)
        active = controller.snapshot
        plan = await self._check(active, change) if change.checked else None
        if change.draft.policy == active.policy and change.checked:
            return await self._unchanged(plan)
        stored = await controller.exclusively(lambda: self._store(change, active, confirm))
        await controller.publish()
        waiting = await controller.realised(stored.number, min(max(change.wait, 0.0), LONGEST_WAIT))
        return VersionReply(
            version=version_view(stored, controller.snapshot.version),
            plan=plan,
            pending=pending_view(controller.unconfirmed),
            realised=not waiting,
            waiting=waiting,
        )

    async def _check(self, active: Snapshot, change: Change) -> Plan:
        """Hold the draft to what was seen of it, to its tests and to the invariants."""
        plan = await self._planned(active, change.draft, PAIRS)
        if change.expect and change.expect != plan.id:
            raise Refused(
                Why.CONFLICT,
                f"this is not the plan that was seen ({change.expect}): the draft or the active version changed since",
                kept=f"Version {active.version} stays in force.",
                remedy="Look at the plan again, then apply that one.",
            )
        # What fails in the active version already is no reason against a mode: it speaks of no document.
        known = await self._planned(active, _as_it_is(active), 0) if change.action == "mode" else Plan(active.version)
        if refused := tuple(each for each in plan.refused if each not in known.refused):
            raise Refused(
                Why.INVALID,
                "; ".join(refused),
                kept=f"Version {active.version} stays in force.",
                remedy="Change the policy or what it promises, and look at `stockade plan` again.",
            )
        narrower = tuple(each for each in plan.narrower if each not in known.narrower)
        if narrower and not change.accept_narrower:
            raise Refused(
                Why.INVALID,
                "some of this cannot be enforced here, so that the policy would be narrower than written",
                kept=f"Version {active.version} stays in force.",
                remedy="Take it out, or accept that it opens nothing and that what is named is judged at its peers "
                "alone: --accept-narrower.",
                problems=[Problem(each.where, _named(each)) for each in narrower],
            )
        await asyncio.to_thread(self._controller.parts.check, _with(active, change.draft.policy))
        return plan

    async def _unchanged(self, plan: Plan | None) -> VersionReply:
        stored = await self.stored(self._controller.snapshot.version)
        waiting = self._controller.roster.waiting()
        return VersionReply(
            version=version_view(stored, stored.number),
            plan=plan,
            pending=pending_view(self._controller.unconfirmed),
            realised=not waiting,
            waiting=waiting,
            unchanged=True,
        )

    async def _store(self, change: Change, active: Snapshot, confirm: float | None) -> StoredVersion:
        """Store the version, its event, its audit entry and its deadline together."""
        controller = self._controller
        kept = change.unless_kept is not None and controller.unconfirmed != change.unless_kept
        if kept or controller.snapshot.version != active.version:
            raise Refused(
                Why.CONFLICT,
                f"version {controller.snapshot.version} became active, or was confirmed, in between",
                kept=f"Version {controller.snapshot.version} stays in force.",
                remedy="Look at the plan against it, then apply again.",
            )
        now = controller.clock.now()
        version = _new_version(change, Version(active.version + 1), now)
        waits = self._waits(version.number, active.version, confirm, now)
        lapsed = tuple(QuarantineLapsed(name) for name in _past(version.policy, frozenset(), now))
        events: tuple[Event, ...] = (PolicyActivated(version.number, version.policy), *lapsed)
        audit = Entry(change.by.name, change.action, f"version {version.number}", detail=change.note, uid=change.by.uid)
        commit = Commit(events=events, version=version, unconfirmed=waits, confirmed=waits is None, audit=(audit,))
        await controller.commit(commit)
        self._deadline = None
        if confirm is not None:
            self._arm(confirm)
        log.info(change.action, version=version.number, by=change.by.name, uid=change.by.uid, confirm=confirm)
        return version

    def _waits(self, new: Version, active: Version, confirm: float | None, now: float) -> Unconfirmed | None:
        if confirm is None:
            return None
        earlier = self._controller.unconfirmed
        return Unconfirmed(new, earlier.returns_to if earlier else active, now + confirm)

    async def _read(self, files: Sequence[SourceFile]) -> Draft:
        return await asyncio.to_thread(self._controller.parts.read, files)

    async def _planned(self, active: Snapshot, draft: Draft, pairs: int) -> Plan:
        wanted = _with(active, draft.policy)
        return await asyncio.to_thread(self._controller.parts.plan, active, wanted, draft, pairs)

    async def _audited(self, by: Caller, action: str, job: Callable[[], Awaitable[T]]) -> T:
        """Do it; where it is refused, write down who asked and why not."""
        try:
            return await job()
        except StoreFailed:
            raise
        except StockadeError as refusal:
            await self._note_refusal(Entry(by.name, action, outcome="refused", detail=refusal.message, uid=by.uid))
            raise

    async def _note_refusal(self, entry: Entry) -> None:
        """Audit a refusal; where even that cannot be stored, the reason for the refusal is still what is told."""
        try:
            await self._controller.exclusively(lambda: self._controller.commit(Commit(audit=(entry,))))
        except StoreFailed as problem:
            log.error("refusal not audited", action=entry.action, by=entry.who, error=problem.message)


def _sources(files: Sequence[File]) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(each.name, each.text) for each in files)


def _sound(draft: Draft) -> Draft:
    if draft.problems:
        count = len(draft.problems)
        raise Refused(
            Why.INVALID,
            f"{count} problem{'s' if count > 1 else ''} in the policy",
            kept="The active version stays in force.",
            remedy="Correct what is listed, then try again.",
            problems=draft.problems,
        )
    return draft


def _with(active: Snapshot, policy: PolicySet) -> Snapshot:
    """Return the snapshot as it would be were this policy active."""
    return folded(active, PolicyActivated(Version(active.version + 1), policy))


def _named(caution: Caution) -> str:
    return caution.text if caution.where.line else f"{caution.subject} {caution.text}"


def _as_it_is(active: Snapshot) -> Draft:
    return Draft(active.policy)


def _new_version(change: Change, number: Version, at: float) -> StoredVersion:
    return StoredVersion(
        number=number,
        author=change.by.name,
        note=change.note,
        at=at,
        hash=change.draft.hash,
        policy=change.draft.policy,
        files=change.files,
        canonical=change.draft.canonical,
        restores=change.restores,
    )


def _bounded_confirm(seconds: float | None) -> float | None:
    if seconds is not None and not (math.isfinite(seconds) and SHORTEST <= seconds <= LONGEST):
        raise Refused(
            Why.MALFORMED,
            f"confirm within {seconds} seconds is out of bounds",
            remedy=f"Give between {SHORTEST:.0f} and {LONGEST:.0f} seconds.",
        )
    return seconds


def _due(snapshot: Snapshot, now: float) -> tuple[str, ...]:
    return _past(snapshot.policy, snapshot.lapsed, now)


def _past(policy: PolicySet, lapsed: frozenset[str], now: float) -> tuple[str, ...]:
    """Return the quarantines whose end has passed."""
    return tuple(
        each.name
        for each in policy.quarantines
        if each.until is not None and each.until.timestamp() <= now and each.name not in lapsed
    )
