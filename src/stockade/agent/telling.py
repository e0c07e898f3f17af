"""What an agent tells its controller: what is true here, whole and again until it is acknowledged. Pure.

One report and one outcome are under way at a time; what changes meanwhile is in the next. The first report after a
start, and the first to a controller that has forgotten, is everything: what is not in it is gone.
"""

import msgspec

from stockade.agent.inventory import Inventory, changes
from stockade.agent.values import Command, Say, SetTimer, Timer
from stockade.core.model.event import Event
from stockade.core.model.ids import HostId
from stockade.core.model.intent import Intent
from stockade.wire import AgentMessage, BirthRecord, Outcome, Report

RESEND = 2.0
"""Seconds before a message that nobody heard is sent again."""

Commands = tuple[Command, ...]


class Telling:
    """What was told, and what of it was heard."""

    def __init__(self, host: HostId, sources: tuple[str, ...], inventory: Inventory) -> None:
        self._host = host
        self._sources = sources
        self._inventory = inventory
        self._generation: int | None = None
        self._stored = 0
        self._began_with_nothing = False
        self._told: dict[str, Event] = {}
        self._coming: dict[str, Event] = {}
        self._whole = True
        self._sent: Report | None = None
        self._outcome: Outcome | None = None
        self._newest: Outcome | None = None
        self.untaken = ""
        """Why the controller, which answers, keeps nothing of what it is told; empty where it does."""

    def greeted(self, generation: int) -> Commands:
        """A controller answers; it has stored reports up to this generation."""
        if self._generation is None:
            self._generation, self._began_with_nothing = generation, generation == 0
        elif not self._stored <= generation <= self._generation:
            # It was set back, or somebody else reported in our name: what it knows of this host is not what we told.
            self._generation = max(generation, self._generation)
            self._told, self._sent, self._whole = {}, None, True
        self._stored = generation
        if self._sent is not None and generation >= self._sent.generation:
            self.acknowledged(generation)
        self._outcome = self._outcome or self._newest  # whoever answers may have started since: it takes nobody's word
        return self.report_again()

    def complete(self) -> bool:
        """Tell whether the inventory is whole, so that what is missing is gone.

        A source that cannot be reached is waited for, unless the controller knows nothing of this host yet: then
        nothing can be taken for gone.
        """
        return self._generation is not None and self._inventory.complete(self._sources, lost=self._began_with_nothing)

    def report(self) -> Commands:
        """Report what is true and was not told yet, one report at a time."""
        if self._sent is not None or self._generation is None:
            return ()
        truth = self._inventory.truth()
        events = changes(self._told, truth)
        if not events and not self._whole:
            return ()
        self._generation += 1
        self._coming = truth
        self._sent = Report(self._host, self._generation, events, whole=self._whole)
        return self.report_again()

    def report_again(self) -> Commands:
        """Send the report that nobody acknowledged."""
        return (Say(self._sent), SetTimer(Timer.REPORT, RESEND)) if self._sent is not None else ()

    def acknowledged(self, generation: int) -> None:
        """The controller has stored reports up to this generation."""
        self.untaken = ""
        self._stored = max(self._stored, generation)
        if self._sent is not None and generation >= self._sent.generation:
            self._told, self._sent, self._whole = self._coming, None, False

    def outcome(self, intent: Intent, error: str = "", births: tuple[BirthRecord, ...] = ()) -> Commands:
        """Tell what became of an intent. Births that nobody has heard of yet come along."""
        untold = self._outcome.births if self._outcome else ()
        self._outcome = Outcome(
            self._host, intent.revision, intent.version, intent.fingerprint, error, (*untold, *births)
        )
        self._newest = msgspec.structs.replace(self._outcome, births=())
        return self.outcome_again()

    def outcome_again(self) -> Commands:
        """Send the outcome that nobody heard."""
        return (Say(self._outcome), SetTimer(Timer.OUTCOME, RESEND)) if self._outcome is not None else ()

    def outcome_heard(self, outcome: Outcome) -> Commands:
        """Somebody heard it. Where there is a newer one, what that repeats of it need not be repeated."""
        if outcome == self._outcome:
            self._outcome = None
        elif self._outcome is not None:
            rest = tuple(each for each in self._outcome.births if each not in outcome.births)
            self._outcome = msgspec.structs.replace(self._outcome, births=rest)
        return ()

    def unheard(self, message: AgentMessage, refused: str = "") -> Commands:
        """Nobody took a message: it is sent again after a while. ``refused``: why, where somebody answered."""
        self.untaken = refused
        match message:
            case Report():
                return (SetTimer(Timer.REPORT, RESEND),) if self._sent is not None else ()
            case Outcome():
                return (SetTimer(Timer.OUTCOME, RESEND),) if self._outcome is not None else ()
            case _:
                return ()
