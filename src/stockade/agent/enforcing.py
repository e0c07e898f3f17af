"""What is assigned becomes what is in force: read first, then change, step by step. Pure.

Promises: nothing is programmed before a whole assignment is there, and none older than the one that is wanted; what
the kernel holds is read before it is first changed, and again whenever there is a reason to doubt what was written
there; a change that fails leaves what was in force and is tried again; what is in force is kept on disk afterwards, and
the kernel says whether it was kept in time.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from stockade.agent.introducing import introductions
from stockade.agent.values import (
    Command,
    Commit,
    Forget,
    Observe,
    Remark,
    Save,
    SetTimer,
    Sweep,
    Timer,
)
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.reconcile import distrust, made, steps, text
from stockade.wire import PROTOCOL, Assignment

RETRY = 0.25
"""Seconds before a failed transaction is tried again; doubled each time, up to ``RETRY_AT_MOST``."""
RETRY_AT_MOST = 30.0


class Refused(NamedTuple):
    """An assignment that is not in force, and why."""

    intent: Intent
    error: str


class Done(NamedTuple):
    """What is to be done, and what became of an assignment, if anything did.

    ``news``: it was not in force before, or nobody knew that it was. ``unfinished``: something waited for this; begin
    with it.
    """

    commands: tuple[Command, ...] = ()
    came_true: Intent | None = None
    news: bool = False
    refused: Refused | None = None
    unfinished: bool = False
    mended: bool = False
    """Our tables were not as they had been left, and are again."""


class Way(NamedTuple):
    """Transactions in order, none where nothing is to be done, and what the kernel holds before and after the last."""

    batches: tuple[str, ...]
    made: Callable[[], Ruleset]
    leads_to: Ruleset


NOWHERE = Way((), Ruleset, Ruleset())


class Planning(Protocol):
    """Turns an intent and what the kernel holds into transactions; only the last one is felt."""

    def __call__(self, intent: Intent, held: Ruleset) -> Way:
        """Return the way from what is held to the intent."""
        ...


class Rendered:
    """The usual planning. It keeps the last rendering, since looks at the tables come far oftener than intents."""

    def __init__(self) -> None:
        self._last: tuple[Intent, Ruleset] | None = None

    def __call__(self, intent: Intent, held: Ruleset) -> Way:
        """Render, compare, and spell every step before the first of them is carried out."""
        if self._last is None or self._last[0] is not intent:
            self._last = (intent, render(intent))
        desired = self._last[1]
        return Way(tuple(text(step) for step in steps(desired, held)), partial(made, desired, held), desired)


class Enforcing:
    """One host's enforcement. One thing at a time is asked of the kernel; what happens meanwhile is looked at after."""

    def __init__(self, host: HostId, planning: Planning) -> None:
        self._host = host
        self._planning = planning
        self._assignment: Assignment | None = None
        self.realised: Intent | None = None
        self._running: Intent | None = None
        self._way = NOWHERE
        """Where it leads, and what of it is still to be done."""
        self._held: Ruleset | None = None
        """What was read or written last, for as long as nobody gave a reason to doubt it."""
        self._changed = False
        self._owners: dict[Address, WorkloadId] = {}
        self._kept: Intent | None = None
        """What is on disk, or on its way there. Nothing older is ever wanted."""
        self._busy = self._dirty = self._turned = False
        self._suspect = self._suspecting = False
        self._doubted = False
        """Somebody gave a reason to doubt our tables since they were last asked for."""
        self._failures = 0

    @property
    def wanted(self) -> Intent | None:
        """The intent to bring into force."""
        return self._assignment.intent if self._assignment else None

    def assigned(self, assignment: Assignment) -> Done:
        """Take on an assignment, unless it is older than what is wanted already."""
        if why := self._unfit(assignment):
            return _refused(assignment, why)
        self._assignment, self._failures = assignment, 0
        return self.begin()

    def remembered(self, assignment: Assignment, *, superseded: bool) -> Done:
        """Take on what was kept on disk, until the controller speaks; or only whose the addresses were under it."""
        if self._assignment is not None:
            return Done()
        if why := self._unfit(assignment):
            return _refused(assignment, why)
        self._owners, self._kept = owners_of(assignment.intent), assignment.intent
        return Done() if superseded else self.assigned(assignment)

    def begin(self) -> Done:
        """Go from what the kernel holds to what is wanted; if a change is under way, afterwards.

        Reading our tables takes as long as they are large, so what is known to be there is not read again.
        """
        if self._assignment is None:
            return Done()
        if self._busy:
            self._dirty = True
            return Done()
        self._busy, self._dirty = True, False
        if self._held is not None:
            return self._plan(self._assignment.intent, self._held)
        self._doubted = False
        return Done((Observe(),))

    def observed(self, ruleset: Ruleset) -> Done:
        """Plan from what is there, and begin."""
        if self._assignment is None:
            self._busy = False
            return Done()
        self._suspecting, self._suspect = self._suspect, False
        return self._plan(self._assignment.intent, distrust(ruleset) if self._suspecting else ruleset)

    def committed(self) -> Done:
        """Go on with what is under way; or, once, to what is wanted by now: what has been made nobody feels yet."""
        if self._running is None or self._assignment is None:
            return Done()
        newer = self._assignment.intent is not self._running
        if newer and len(self._way.batches) == 1 and not self._turned and not self._doubted:
            self._turned, self._dirty = True, False
            return self._plan(self._assignment.intent, self._way.made())
        return self._next(self._running)

    def failed(self, error: str) -> Done:
        """What was in force still is. Try again after a while, from what the kernel then holds."""
        self._suspect |= self._suspecting
        self._busy, self._turned, self._way, self._running, self._held = False, False, NOWHERE, None, None
        pause = min(RETRY * 2**self._failures, RETRY_AT_MOST)
        self._failures = min(self._failures + 1, 30)
        refused = Refused(self._assignment.intent, error) if self._assignment else None
        return Done((Remark("not-realised", error), SetTimer(Timer.RETRY, pause)), refused=refused)

    def drifted(self, by: str) -> Done:
        """Look at our tables. Where somebody was seen to change them, no rule is believed to be what it says."""
        self._suspect |= bool(by)
        self._held, self._doubted = None, True
        remarks = (Remark("tampered", f"{by} changed our tables; they are put right"),) if by else ()
        done = self.begin()
        return done._replace(commands=(*remarks, *done.commands))

    def retry(self) -> Done:
        """The pause after a failure is over."""
        return self.begin() if self._failures else Done()

    # Within

    def _unfit(self, assignment: Assignment) -> str:
        """Say why an assignment is not taken on; empty where it is."""
        intent, wanted = assignment.intent, self.wanted or self._kept
        if assignment.protocol != PROTOCOL:
            return f"the controller speaks protocol {assignment.protocol}, this agent {PROTOCOL}: run the same version"
        if intent.host != self._host:
            return f"it is host {intent.host}'s, and this is {self._host}: give each host an id of its own"
        if wanted is not None and (intent.version, intent.revision) < (wanted.version, wanted.revision):
            return (
                f"version {intent.version}, revision {intent.revision} is older than version {wanted.version}, "
                f"revision {wanted.revision}, which stays in force; if the controller was set back on purpose, "
                "remove the file `assignment` from the agent's state folder and start the agent again"
            )
        return ""

    def _plan(self, intent: Intent, held: Ruleset) -> Done:
        """Plan the way from what the kernel holds, and set out."""
        self._running = intent
        try:
            self._way = self._planning(intent, held)
        except Exception as problem:  # noqa: BLE001 - what cannot be rendered must not end the agent; it shows
            return self.failed(f"cannot be written for this kernel: {problem or type(problem).__name__}")
        self._changed = bool(self._way.batches)
        return self._next(intent)

    def _next(self, intent: Intent) -> Done:
        """Carry out the next step; after the last, the intent is realised."""
        if not self._way.batches:
            return self._realised(intent)
        batch, *more = self._way.batches
        self._way = self._way._replace(batches=tuple(more))
        if more:
            return Done((Commit(batch),))
        # Where it was in force already and is put right, connections were looked through when it came into force.
        ahead = None if intent is self.realised else intent
        now = owners_of(intent)
        addresses = moved(self._owners, intent)
        given = tuple(each for each in addresses if each in now)
        left = tuple(each for each in addresses if each not in now)
        return Done((Commit(batch, given, left, ahead, introductions(self.realised, intent)),))

    def _realised(self, intent: Intent) -> Done:
        before, self.realised = self.realised, intent
        suspected = self._suspecting
        news = self._failures > 0 or before is None or _name(before) != _name(intent)
        moved_rules = self._changed or self._failures > 0 or before is None
        forget = () if self._changed else moved(self._owners, intent)
        self._owners = owners_of(intent)
        self._busy, self._turned, self._running, self._failures, self._suspecting = False, False, None, 0, False
        self._held = None if self._doubted else self._way.leads_to
        commands: list[Command] = [Forget(forget)] if forget else []
        commands += [Sweep(intent)] if moved_rules else []
        commands += [Save(intent)] if intent is not self._kept else []
        self._kept = intent
        mended = suspected or (self._changed and not news)
        return Done(tuple(commands), intent, news, unfinished=self._dirty, mended=mended)


def _refused(assignment: Assignment, why: str) -> Done:
    return Done((Remark("assignment-refused", why),), refused=Refused(assignment.intent, why))


def changed_hands(before: Intent | None, after: Intent) -> tuple[Address, ...]:
    """Return the addresses that were one workload's and are another's now, or nobody's."""
    return moved(owners_of(before), after) if before else ()


def moved(owners: Mapping[Address, WorkloadId], after: Intent) -> tuple[Address, ...]:
    """Return the addresses whose owner is another one under ``after``, or nobody."""
    now = owners_of(after)
    return tuple(sorted(address for address, owner in owners.items() if now.get(address) != owner))


def owners_of(intent: Intent) -> dict[Address, WorkloadId]:
    """Return whose each local address is."""
    return {address: end.workload for end in intent.ends if end.workload for address in end.addresses}


def _name(intent: Intent) -> tuple[object, ...]:
    return intent.version, intent.fingerprint
