"""What happens to an agent, and what it wants done, as values."""

import msgspec

from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import Address
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Host, Sighting
from stockade.seams.runtime import RuntimeEvent
from stockade.wire import AgentMessage, Assignment

# What happens


class SourceSaid(msgspec.Struct, frozen=True):
    """A source of workloads said something."""

    source: str
    event: RuntimeEvent


class HostObserved(msgspec.Struct, frozen=True):
    """The host as the kernel shows it now: its links and addresses, and itself as a workload."""

    host: Host
    itself: Sighting


class Assigned(msgspec.Struct, frozen=True):
    """The controller, or the last assignment on disk, says what to enforce."""

    assignment: Assignment
    from_disk: bool = False


class Observed(msgspec.Struct, frozen=True):
    """Our tables were read."""

    ruleset: Ruleset


class Committed(msgspec.Struct, frozen=True):
    """The transaction that was asked for is in force."""


class Failed(msgspec.Struct, frozen=True):
    """The kernel refused the transaction, or could not be asked. What was in force still is."""

    error: str


class Drifted(msgspec.Struct, frozen=True):
    """Somebody else may have changed our tables."""


class Acknowledged(msgspec.Struct, frozen=True):
    """The controller has stored reports up to this generation."""

    generation: int


class Unheard(msgspec.Struct, frozen=True):
    """The controller did not take a message."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


Happening = (
    SourceSaid | HostObserved | Assigned | Observed | Committed | Failed | Drifted | Acknowledged | Unheard | Tick
)

# What is wanted


class Say(msgspec.Struct, frozen=True):
    """Tell the controller."""

    message: AgentMessage


class Observe(msgspec.Struct, frozen=True):
    """Read our tables."""


class Commit(msgspec.Struct, frozen=True):
    """Carry out one transaction.

    ``forget``: addresses whose entries go first, because they change hands. ``ahead``: before it, see to connections
    older than tracking under the intent that comes.
    """

    batch: str
    forget: tuple[Address, ...] = ()
    ahead: Intent | None = None


class Sweep(msgspec.Struct, frozen=True):
    """End every tracked connection that the intent does not allow."""

    intent: Intent


class Save(msgspec.Struct, frozen=True):
    """Keep the assignment on disk for a start without a controller."""

    assignment: Assignment


class Wake(msgspec.Struct, frozen=True):
    """Send a ``Tick`` at this time (the clock that ``handle`` is given)."""

    at: float


class Remark(msgspec.Struct, frozen=True):
    """For the log: an event's name and what belongs to it."""

    event: str
    detail: str = ""


Command = Say | Observe | Commit | Sweep | Save | Wake | Remark
