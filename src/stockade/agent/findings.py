"""What is found wrong on this host, told until it is heard; and how long it has been so. Pure.

A finding is raised when it is first seen and cleared when it is no longer; one that came and went between two
messages is told as passed, so that nothing goes untold. That somebody changed our tables is found by whoever puts
them right: it stays a while after that, for it is put right in milliseconds.
"""

import msgspec

from stockade.agent.values import Command, Say, SetTimer, Timer
from stockade.core.model.finding import Assessment, Finding, Severity
from stockade.core.model.ids import HostId
from stockade.core.posture.host.assess import OWN_TABLES
from stockade.wire import Findings

RESEND = 2.0
"""Seconds before what nobody heard is told again."""
REMEMBERED = 10.0
"""Seconds that a change of our tables is shown after it was put right."""
UNTOLD = 1000
"""Findings that came and went and are kept until they are heard."""
OBJECT = "inet stockade, bridge stockade"
REMEDY = "find out why it changes them; `stockade log` has every time"

Commands = tuple[Command, ...]


class FindingBook:
    """What is open, and what has been told of it."""

    def __init__(self, host: HostId) -> None:
        self._host = host
        self._assessment: Assessment | None = None
        self._tampered: Finding | None = None
        self._mended = True
        self._passed: tuple[Finding, ...] = ()
        self._sent: Findings | None = None
        """Under way: one message at a time, so that none overtakes another."""
        self._heard: Findings | None = None

    def inspected(self, assessment: Assessment, now: float) -> Commands:
        """Take what all checks say now. What was open already keeps the time at which it began."""
        before = {(each.check, each.object): each.since for each in self._open()}
        dated = (
            msgspec.structs.replace(each, since=before.get((each.check, each.object), now))
            for each in assessment.findings
        )
        self._assessment = Assessment(tuple(dated), assessment.unassessed)
        return self._tell()

    def tampered(self, by: str, now: float) -> Commands:
        """Somebody changed our tables. What an earlier one did has passed."""
        self._note(by, now)
        return self._tell()

    def mended(self, now: float) -> Commands:
        """Our tables hold again what they should. Where nobody was seen to change them, that is a finding as well."""
        if self._mended:
            self._note("somebody who was not seen", now)
        if self._tampered is not None:
            took = max(now - self._tampered.since, 0.0) * 1000
            seen = f"{self._tampered.seen}; put right after {took:.0f} ms"
            self._tampered = msgspec.structs.replace(self._tampered, seen=seen)
        self._mended = True
        return (*self._tell(), SetTimer(Timer.MENDED, REMEMBERED))

    def settled(self) -> Commands:
        """Our tables were put right a while ago."""
        if self._mended:
            self._tampered = None
        return self._tell()

    def heard(self, message: Findings) -> Commands:
        """The controller has taken a message; tell it what has changed since."""
        self._sent, self._heard = None, msgspec.structs.replace(message, passed=())
        self._passed = tuple(each for each in self._passed if each not in message.passed)
        return self._tell()

    def forgotten(self) -> Commands:
        """Whoever answers may have started since: it is told everything."""
        self._sent = self._heard = None
        return self._tell()

    def unheard(self) -> Commands:
        """Nobody took a message: it is told again after a while."""
        return (SetTimer(Timer.FINDINGS, RESEND),)

    def again(self) -> Commands:
        """Tell what was not heard."""
        self._sent = None
        return self._tell()

    def _note(self, by: str, now: float) -> None:
        if self._tampered is not None:
            self._passed = (*self._passed, self._tampered)[-UNTOLD:]
        self._tampered = Finding(OWN_TABLES, OBJECT, Severity.HIGH, f"{by} changed them", REMEDY, now)
        self._mended = False

    def _open(self) -> tuple[Finding, ...]:
        return self._assessment.findings if self._assessment else ()

    def _tell(self) -> Commands:
        """Nothing is told before everything was looked at once: what is not in a message counts as cleared."""
        if self._assessment is None or self._sent is not None:
            return ()
        own = (self._tampered,) if self._tampered else ()
        message = Findings(self._host, (*own, *self._open()), self._assessment.unassessed, self._passed)
        if message == self._heard:
            return ()
        self._sent = message
        return (Say(message),)
