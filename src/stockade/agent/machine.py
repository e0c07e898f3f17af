"""The agent's brain: ``handle(event, now) → commands``. No I/O, no clock, no surprise.

Two halves that share nothing but births: ``telling`` says what is found here until it is heard, ``enforcing`` brings
what is assigned into force. ``now`` is only ever written down, never compared: a clock that jumps moves no timer.
"""

from stockade.agent.births import PATIENCE, BirthBook
from stockade.agent.enforcing import Done, Enforcing, Planning, Rendered, changed_hands
from stockade.agent.findings import FindingBook
from stockade.agent.inventory import Inventory
from stockade.agent.surveying import census
from stockade.agent.telling import Telling
from stockade.agent.values import (
    Assigned,
    Command,
    Committed,
    Drifted,
    Elapsed,
    Failed,
    Greeted,
    Happening,
    Heard,
    HostObserved,
    Inspected,
    KeepBirths,
    Observed,
    Remark,
    SetTimer,
    SourceSaid,
    Timer,
    Unheard,
)
from stockade.core.model.census import Census
from stockade.core.model.ids import HostId
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births
from stockade.core.posture.host import assess
from stockade.seams.runtime import Lost
from stockade.seams.survey import Survey
from stockade.wire import Findings, Outcome, Report

__all__ = ["Machine", "changed_hands"]

Commands = tuple[Command, ...]


class Machine:
    """One host's agent. ``sources`` must each have listed before the host's inventory counts as whole.

    ``planning`` turns an intent and what the kernel holds into transactions; the last one is the switch.
    """

    def __init__(self, host: HostId, sources: tuple[str, ...], planning: Planning | None = None) -> None:
        self._host = host
        self._inventory = Inventory()
        self._births = BirthBook()
        self._telling = Telling(host, sources, self._inventory)
        self._enforcing = Enforcing(host, planning or Rendered())
        self._kept: KeepBirths | None = None
        self._births_timed = False
        self._findings = FindingBook(host)

    @property
    def starting(self) -> bool:
        """Whether nothing is known to be in force yet: it may be within a moment. May be asked by any thread."""
        return self.realised is None

    def refusal(self) -> str:
        """Say why a workload may not be born here now; empty where it may. It is held, or nobody denies it anything.

        May be asked by any thread.
        """
        if (realised := self.realised) is None:
            return "what is in force here is not known yet"
        if realised.births is Births.PASS:
            return ""
        return f"it cannot be written down ({self._telling.untaken})" if self._telling.untaken else ""

    @property
    def realised(self) -> Intent | None:
        """The intent that is in force, as far as is known."""
        return self._enforcing.realised

    def census(self, survey: Survey, now: float) -> Census:
        """Return what a survey shows of this host, by workload. Changes nothing."""
        return census(self._host, survey, self._inventory, now)

    def handle(self, event: Happening, now: float) -> Commands:
        """Take in one event at a time (seconds since the epoch) and say what is to be done about it."""
        match event:
            case SourceSaid(source=source, event=said):
                self._inventory.hear(source, said, now)
                remark = (Remark("source-lost", f"{source}: {said.reason}"),) if isinstance(said, Lost) else ()
                return (*remark, *self._found(now))
            case HostObserved(host=host, itself=itself):
                self._inventory.look(host, itself)
                return self._found(now)
            case Greeted(generation=generation):
                again = self._telling.greeted(generation)
                return (*again, *self._found(now), *self._telling.outcome_again(), *self._findings.forgotten())
            case Heard(message=Report(), generation=generation):
                self._telling.acknowledged(generation)
                return self._found(now)
            case Heard(message=Outcome() as outcome):
                return self._telling.outcome_heard(outcome)
            case Heard(message=Findings() as findings):
                return self._findings.heard(findings)
            case Inspected(facts=facts):
                return self._findings.inspected(assess(facts, self._enforcing.realised), now)
            case Unheard(message=Findings()):
                return self._findings.unheard()
            case Unheard(message=message, refused=why):
                return self._telling.unheard(message, why)
            case Elapsed(timer=timer):
                return self._elapsed(timer, now)
            case _:
                return self._enforce(event, now)

    def _found(self, now: float) -> Commands:
        """Record what was born, and report what is true and was not told yet."""
        if not self._telling.complete():
            return ()
        intent = self._enforcing.realised or self._enforcing.wanted
        born = self._births.notice(self._inventory.sightings(), intent, now)
        soon = self._births_soon() if born else ()
        return (*soon, *self._telling.report())

    def _births_soon(self) -> Commands:
        """Tell of births that take long. One timer for all: it is not set anew by whoever comes meanwhile."""
        if self._births_timed:
            return ()
        self._births_timed = True
        return (SetTimer(Timer.BIRTHS, PATIENCE),)

    def _births_waiting(self) -> Commands:
        self._births_timed = False
        intent = self._enforcing.realised
        waiting = self._births.waiting() if intent else ()
        return self._telling.outcome(intent, births=waiting) if intent and waiting else ()

    def _elapsed(self, timer: Timer, now: float) -> Commands:
        match timer:
            case Timer.REPORT:
                return self._telling.report_again()
            case Timer.OUTCOME:
                return self._telling.outcome_again()
            case Timer.BIRTHS:
                return self._births_waiting()
            case Timer.RETRY:
                return self._after(self._enforcing.retry(), now)
            case Timer.FINDINGS:
                return self._findings.again()
            case Timer.MENDED:
                return self._findings.settled()

    def _enforce(self, event: Happening, now: float) -> Commands:
        match event:
            case Assigned(assignment=assignment, from_disk=True, superseded=superseded):
                return self._after(self._enforcing.remembered(assignment, superseded=superseded), now)
            case Assigned(assignment=assignment):
                return self._after(self._enforcing.assigned(assignment), now)
            case Observed(ruleset=ruleset):
                return self._after(self._enforcing.observed(ruleset), now)
            case Committed():
                return self._after(self._enforcing.committed(), now)
            case Failed(error=error):
                return self._after(self._enforcing.failed(error), now)
            case Drifted(by=by):
                commands = self._after(self._enforcing.drifted(by), now)
                return (*commands, *self._findings.tampered(by, now)) if by else commands
        return ()

    def _after(self, done: Done, now: float) -> Commands:
        """Tell what became of an assignment, and who was born with it, before going on."""
        if done.refused is not None:
            return (*self._telling.outcome(done.refused.intent, done.refused.error), *done.commands)
        if done.came_true is None:
            return done.commands
        births = self._births.realise(done.came_true, now)
        kept = self._keep_births(done.came_true)
        said = self._telling.outcome(done.came_true, births=births) if done.news or births else ()
        more = self._after(self._enforcing.begin(), now) if done.unfinished else ()
        mended = self._findings.mended(now) if done.mended else ()
        return (*kept, *said, *done.commands, *more, *mended)

    def _keep_births(self, intent: Intent) -> Commands:
        """Have it known to whoever finds no agent here."""
        kept = KeepBirths(intent.births, intent.births_where)
        if kept == self._kept:
            return ()
        self._kept = kept
        return (kept,)
