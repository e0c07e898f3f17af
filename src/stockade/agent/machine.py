"""The agent's brain: ``handle(event, now) → commands``. No I/O, no clock, no surprise.

Promises: nothing is programmed before a whole assignment is there, and none older than the one in force; what the
kernel holds is read before it is changed; a change that fails leaves what was in force and is tried again; what is
found is reported whole and again until it is acknowledged.
"""

from collections.abc import Callable

from stockade.agent.births import BirthBook, holds
from stockade.agent.inventory import Inventory, changes
from stockade.agent.values import (
    Acknowledged,
    Assigned,
    Command,
    Commit,
    Committed,
    Drifted,
    Failed,
    Happening,
    HostObserved,
    Observe,
    Observed,
    Remark,
    Save,
    Say,
    SourceSaid,
    Sweep,
    Tick,
    Unheard,
    Wake,
)
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.event import Event
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.reconcile import Step, steps, text
from stockade.seams.runtime import Lost
from stockade.wire import Assignment, Outcome, Report

RETRY = 1.0
"""Seconds before a failed transaction is tried again; doubled each time, up to ``RETRY_AT_MOST``."""
RETRY_AT_MOST = 30.0
RESEND = 2.0
"""Seconds before a report that nobody acknowledged is sent again."""

Commands = tuple[Command, ...]


class Machine:
    """One host's agent. ``sources`` must each have listed before the host's inventory counts as whole."""

    def __init__(
        self,
        host: HostId,
        sources: tuple[str, ...],
        generation: int = 0,
        rendering: Callable[[Intent], Ruleset] = render,
    ) -> None:
        """``generation``: the last report that the controller has stored of this host."""
        self._host = host
        self._sources = sources
        self._render = rendering
        self._inventory = Inventory()
        self._births = BirthBook()
        self._told: dict[str, Event] = {}
        self._generation = generation
        self._sent: Report | None = None
        self._resend_at = 0.0
        self._wanted: Assignment | None = None
        self.realised: Intent | None = None
        """The intent that is in force, as far as is known."""
        self._running: Intent | None = None
        """The intent of the steps under way."""
        self._queue: tuple[Step, ...] = ()
        self._busy = False
        self._dirty = False
        self._failures = 0
        self._retry_at: float | None = None

    def handle(self, event: Happening, now: float) -> Commands:
        """Take in one event at a time (seconds since the epoch) and say what is to be done about it."""
        match event:
            case SourceSaid(source=source, event=said):
                self._inventory.hear(source, said)
                remark = (Remark("source-lost", f"{source}: {said.reason}"),) if isinstance(said, Lost) else ()
                return (*remark, *self._report(now))
            case HostObserved(host=host, itself=itself):
                self._inventory.look(host, itself)
                return self._report(now)
            case Acknowledged(generation=generation):
                return self._acknowledged(generation, now)
            case Unheard():
                return (Wake(now + RESEND),)
            case Assigned(assignment=assignment, from_disk=from_disk):
                return self._assigned(assignment, from_disk=from_disk)
            case Observed(ruleset=ruleset):
                return self._observed(ruleset, now)
            case Committed():
                return self._next(now)
            case Failed(error=error):
                return self._failed(error, now)
            case Drifted():
                return self._look_again()
            case Tick():
                return self._tick(now)

    # What goes up

    def _report(self, now: float) -> Commands:
        """Report what is true and was not told yet, one report at a time."""
        if not self._inventory.complete(self._sources):
            return ()
        self._births.notice(self._inventory.sightings(), holds(self.realised), now)
        if self._sent is not None:
            return ()
        events = changes(self._told, self._inventory.truth())
        if not events:
            return ()
        self._generation += 1
        self._sent = Report(self._host, self._generation, events)
        self._telling = self._inventory.truth()
        return self._send(now)

    def _send(self, now: float) -> Commands:
        if self._sent is None:
            return ()
        self._resend_at = now + RESEND
        return (Say(self._sent), Wake(self._resend_at))

    def _acknowledged(self, generation: int, now: float) -> Commands:
        if self._sent is None or generation < self._sent.generation:
            return ()
        self._told, self._sent = self._telling, None
        return self._report(now)

    # What comes down

    def _assigned(self, assignment: Assignment, *, from_disk: bool) -> Commands:
        """Take on an assignment, unless it is older than what is wanted already."""
        wanted = self._wanted
        if wanted is not None and assignment.intent.revision < wanted.intent.revision:
            return (Remark("stale-assignment", f"revision {assignment.intent.revision} is older than what is here"),)
        self._wanted = assignment
        self._retry_at, self._failures = None, 0
        kept = () if from_disk else (Save(assignment),)
        return (*kept, *self._look_again())

    def _look_again(self) -> Commands:
        """Read our tables and compare; if a change is under way, afterwards."""
        if self._wanted is None:
            return ()
        if self._busy:
            self._dirty = True
            return ()
        self._busy, self._dirty = True, False
        return (Observe(),)

    def _observed(self, ruleset: Ruleset, now: float) -> Commands:
        if self._wanted is None:
            self._busy = False
            return ()
        self._running = self._wanted.intent
        self._queue = steps(self._render(self._running), ruleset)
        return self._next(now)

    def _next(self, now: float) -> Commands:
        """Carry out the next step; after the last, the intent is realised."""
        if self._running is None:
            return ()
        if not self._queue:
            return self._realised(self._running, now)
        step, self._queue = self._queue[0], self._queue[1:]
        last = not self._queue
        forget = changed_hands(self.realised, self._running) if last else ()
        return (Commit(text(step), forget, self._running if last else None),)

    def _realised(self, intent: Intent, now: float) -> Commands:
        before, self.realised = self.realised, intent
        self._busy, self._running, self._failures, self._retry_at = False, None, 0, None
        births = self._births.realise(intent, now)
        outcome = Outcome(self._host, intent.revision, intent.version, intent.fingerprint, births=births)
        news = before is None or before.version != intent.version or before.fingerprint != intent.fingerprint
        said: Commands = (Say(outcome),) if news or births else ()
        swept: Commands = (Sweep(intent),) if news else ()
        return (*said, *swept, *(self._look_again() if self._dirty else ()))

    def _failed(self, error: str, now: float) -> Commands:
        """What was in force still is. Say so, and try again after a while, from what the kernel then holds."""
        self._busy, self._queue, self._running = False, (), None
        pause = min(RETRY * 2**self._failures, RETRY_AT_MOST)
        self._failures += 1
        self._retry_at = now + pause
        commands: list[Command] = [Remark("not-realised", error), Wake(self._retry_at)]
        if self._wanted is not None:
            intent = self._wanted.intent
            commands.append(Say(Outcome(self._host, intent.revision, intent.version, intent.fingerprint, error)))
        return tuple(commands)

    def _tick(self, now: float) -> Commands:
        commands: list[Command] = []
        if self._sent is not None and now >= self._resend_at:
            commands += self._send(now)
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            commands += self._look_again()
        return tuple(commands)


def changed_hands(before: Intent | None, after: Intent) -> tuple[Address, ...]:
    """Return the addresses that were one workload's and are another's now, or nobody's."""
    if before is None:
        return ()
    now = _owners(after)
    return tuple(sorted(address for address, owner in _owners(before).items() if now.get(address) != owner))


def _owners(intent: Intent) -> dict[Address, WorkloadId | None]:
    return {address: end.workload for end in intent.ends for address in end.addresses}
