"""What happens to an agent, and what it wants done, as values."""

import enum

import msgspec

from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import Address
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Host, Sighting
from stockade.core.model.policy import Births, Where
from stockade.core.posture.host import Facts
from stockade.seams.neighbours import Introduction
from stockade.seams.runtime import RuntimeEvent
from stockade.wire import AgentMessage, Assignment, Findings, Outcome, Report

"""Whose each local address is, sorted by address."""


class Timer(enum.Enum):
    """What is waited for. Setting a timer that runs sets it anew."""

    REPORT = "report"
    """Send the report again that nobody acknowledged."""
    OUTCOME = "outcome"
    """Send the outcome again that nobody heard."""
    BIRTHS = "births"
    """Tell of births that are not complete yet."""
    RETRY = "retry"
    """Try again what the kernel refused."""
    FINDINGS = "findings"
    """Tell again of findings that nobody heard."""
    MENDED = "mended"
    """Our tables were put right a while ago."""


# What happens


class SourceSaid(msgspec.Struct, frozen=True):
    """A source of workloads said something."""

    source: str
    event: RuntimeEvent


class HostObserved(msgspec.Struct, frozen=True):
    """The host as the kernel shows it now: its links and addresses, and itself as a workload."""

    host: Host
    itself: Sighting


class Greeted(msgspec.Struct, frozen=True):
    """The controller answers, for the first time or again. It has stored reports up to this generation."""

    generation: int


class Assigned(msgspec.Struct, frozen=True):
    """The controller, or the last assignment on disk, says what to enforce.

    ``superseded``: it is from disk, and not what the kernel holds; it tells whose addresses were, and no more.
    """

    assignment: Assignment
    from_disk: bool = False
    superseded: bool = False


class Observed(msgspec.Struct, frozen=True):
    """Our tables were read."""

    ruleset: Ruleset


class Committed(msgspec.Struct, frozen=True):
    """The transaction that was asked for is in force."""


class Failed(msgspec.Struct, frozen=True):
    """The kernel refused the transaction, or could not be asked. What was in force still is, or what was asked for."""

    error: str


class Drifted(msgspec.Struct, frozen=True):
    """It is time to look at our tables; ``by``: who was seen to change them, empty where nobody was."""

    by: str = ""


class Inspected(msgspec.Struct, frozen=True):
    """What stands around our tables, and our own files, as they are now."""

    facts: Facts


class Heard(msgspec.Struct, frozen=True):
    """The controller took a message; it has stored reports up to this generation."""

    message: AgentMessage
    generation: int


class Unheard(msgspec.Struct, frozen=True):
    """The controller did not take a message. ``refused``: it answered, and cannot keep it; this is why."""

    message: AgentMessage
    refused: str = ""


class Elapsed(msgspec.Struct, frozen=True):
    """A timer ran out."""

    timer: Timer


Happening = (
    SourceSaid
    | HostObserved
    | Greeted
    | Assigned
    | Observed
    | Committed
    | Failed
    | Drifted
    | Inspected
    | Heard
    | Unheard
    | Elapsed
)

# What is wanted


class Say(msgspec.Struct, frozen=True):
    """Tell the controller; answer with ``Heard`` or ``Unheard``."""

    message: Report | Outcome | Findings


class Observe(msgspec.Struct, frozen=True):
    """Read our tables; answer with ``Observed`` or ``Failed``."""


class Commit(msgspec.Struct, frozen=True):
    """Carry out one transaction; answer with ``Committed`` or ``Failed``.

    ``ahead``: this is the switch to that intent, and before it connections older than tracking are seen to.
    ``forget``: addresses whose entries go right before and right after, because they are another's from then on.
    ``left``: addresses that are nobody's from then on, whose entries go right after.
    ``admitted``: endpoints that are told of their neighbours then: nobody answered when they asked.
    """

    batch: str
    forget: tuple[Address, ...] = ()
    left: tuple[Address, ...] = ()
    ahead: Intent | None = None
    admitted: tuple[Introduction, ...] = ()


class Forget(msgspec.Struct, frozen=True):
    """End every tracked connection of these addresses: they changed hands, and nothing else did."""

    addresses: tuple[Address, ...]


class Sweep(msgspec.Struct, frozen=True):
    """End every tracked connection that the intent does not allow."""

    intent: Intent


class Save(msgspec.Struct, frozen=True):
    """Keep on disk what is in force now, for a start without a controller. Of several the last is enough."""

    intent: Intent


class KeepBirths(msgspec.Struct, frozen=True):
    """Write down what this host does with unknown workloads, and where policy says so: for a gate without an agent."""

    births: Births
    where: Where


class SetTimer(msgspec.Struct, frozen=True):
    """Say ``Elapsed`` after so many seconds, unless the same timer is set again before."""

    timer: Timer
    seconds: float


class Remark(msgspec.Struct, frozen=True):
    """For the log: an event's name and what belongs to it."""

    event: str
    detail: str = ""


Command = Say | Observe | Commit | Forget | Sweep | Save | KeepBirths | SetTimer | Remark
