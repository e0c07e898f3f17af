"""Where flows are kept: put in numbered batches, asked for by time, ends, services and verdicts.

A batch counts once, however often it is put: again at once, after a restart, after a crash in the middle of it. A flow
belongs to the moment at which it was ``first`` seen in its batch; times are kept to the microsecond. Every method may
raise ``FlowStoreFailed`` that says what was kept, and may be called from any thread.
"""

import enum
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from stockade.core.model.flow import FlowLoss, StoredFlow, Tally, Verdict, Via
from stockade.core.model.flow_table import EndText, FlowTable, KeptEnd, stored_flows
from stockade.core.model.ids import HostId, Prefix, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.core.model.selector import Selector
from stockade.decoding import ready
from stockade.errors import StockadeError


class FlowStoreFailed(StockadeError):  # noqa: N818 - reads as what happened
    """The flow store could not do what was asked; ``kept`` says what it holds."""


class FlowsRefused(FlowStoreFailed):
    """What was asked is wrong in itself: to ask again is of no use."""

    @classmethod
    def broken(cls, what: str, why: str, of: str = "put") -> "FlowsRefused":
        """Return the refusal of a batch that no point of ours makes, and of whatever comes with it in this call."""
        return cls(
            f"{what}: {why}",
            kept=f"Nothing of this {of} was stored; what was stored before is as it was.",
            remedy="Drop the batch: its point is broken or not one of ours.",
        )


class StoredBatch(msgspec.Struct, frozen=True):
    """A batch with both ends of its flows known. ``until`` is when it ended, by the point's clock; losses count then.

    Columns may come from whoever sent them: what is wrong in them is for the store to refuse.
    """

    host: HostId
    stream: str
    number: int
    until: float
    flows: FlowTable[EndText] = FlowTable()
    lost: tuple[FlowLoss, ...] = ()


def end_of(text: EndText) -> KeptEnd:
    """Return the end that a text is. ``msgspec.MsgspecError``: it is none."""
    return msgspec.msgpack.decode(text, type=ready(KeptEnd))


def stored(host: HostId, table: FlowTable[EndText]) -> Iterator[StoredFlow]:
    """Yield a host's stored flows one by one."""
    return stored_flows(host, table, tuple(map(end_of, table.ends)))


class Put(msgspec.Struct, frozen=True):
    """What a ``put`` did: batches and flows that were new, and the places of batches that were there already."""

    batches: int = 0
    flows: int = 0
    known: tuple[int, ...] = ()

    @property
    def repeated(self) -> int:
        """How many batches were there already."""
        return len(self.known)


class Test(str, enum.Enum):
    """How a label is compared."""

    __test__ = False  # pytest collects what begins with Test

    IN = "in"
    NOT_IN = "not in"
    """True where the label is absent, as in a selector."""
    EXISTS = "exists"
    ABSENT = "absent"


class LabelCondition(msgspec.Struct, frozen=True):
    """One test of one label; ``values`` are for ``IN`` and ``NOT_IN``."""

    key: str
    test: Test
    values: tuple[str, ...] = ()


class EndFilter(msgspec.Struct, frozen=True):
    """What one end must be. All that is given must hold; of a list, one. Nothing given: any end.

    ``prefixes`` may be single addresses. A workload's end has no network; an end without a workload has no labels.
    """

    labels: tuple[LabelCondition, ...] = ()
    workloads: tuple[WorkloadId, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    networks: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    """Names by which resolvers led to an address that is nobody's known."""
    known: bool | None = None
    """True: a workload; False: an address that is nobody's known."""
    selector: Selector | None = None
    """What a labelled workload's labels must be. It matches nobody else, as in policy (``docs/policy.md``, 7)."""


class ServiceRange(msgspec.Struct, frozen=True):
    """Ports of a protocol; ``protocol`` None: of any."""

    protocol: int | None = None
    first: int = 0
    last: int = 65535


class FlowFilter(msgspec.Struct, frozen=True):
    """Which flows. All that is given must hold; of a list, one.

    ``since`` is included, ``until`` is not; None: as far as anything is kept.
    """

    since: float | None = None
    until: float | None = None
    source: EndFilter = EndFilter()
    destination: EndFilter = EndFilter()
    services: tuple[ServiceRange, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    rules: tuple[RuleId, ...] = ()
    hosts: tuple[HostId, ...] = ()
    ends: tuple[Direction, ...] = ()
    vias: tuple[Via, ...] = ()
    processes: tuple[str, ...] = ()
    """All that is told of programs at the judging end, as text; an empty one: none is known."""
    programs: tuple[str, ...] = ()
    """One of those that were met there."""
    opened_to: tuple[str, ...] = ()
    """What connections were opened to where that is not their destination; an empty one: it is."""


class Of(str, enum.Enum):
    """What flows are grouped by. Labels need the label's key beside it."""

    SOURCE_LABEL = "source.label"
    SOURCE_WORKLOAD = "source.workload"
    SOURCE_ADDRESS = "source.address"
    SOURCE_NETWORK = "source.network"
    DESTINATION_LABEL = "destination.label"
    DESTINATION_WORKLOAD = "destination.workload"
    DESTINATION_ADDRESS = "destination.address"
    DESTINATION_NETWORK = "destination.network"
    PROTOCOL = "protocol"
    PORT = "port"
    VERDICT = "verdict"
    RULE = "rule"
    PROCESS = "process"
    HOST = "host"
    END = "end"
    VIA = "via"
    SERVICE = "service"
    MINUTE = "minute"
    """Seconds since the epoch at which the minute of ``first`` begins."""
    HOUR = "hour"
    DAY = "day"
    """In UTC, as minutes and hours are."""


TOLD = "dns:"
"""What stands before a name that a resolver told, where it could be taken for another."""
LABELS = (Of.SOURCE_LABEL, Of.DESTINATION_LABEL)


class Dimension(msgspec.Struct, frozen=True):
    """One thing to group by; ``label`` is the key of a label.

    By the label ``name``, an address that is nobody's known has the name by which a resolver led to it, after ``TOLD``:
    nobody takes it for a workload's.
    """

    of: Of
    label: str = ""


def dimension(text: str) -> Dimension:
    """Return the dimension that a user names: ``port``, ``source.workload``, ``source.app`` (the label ``app``).

    ``source.label.address`` is the label ``address``. ``FlowsRefused`` where there is none of that name.
    """
    end, _, key = text.partition(".")
    if text in {of.value for of in Of if of not in LABELS}:
        return Dimension(Of(text))
    if end in ("source", "destination") and key not in ("", "label", "label."):
        return Dimension(Of(f"{end}.label"), key.removeprefix("label."))
    names = ", ".join(sorted(of.value for of in Of if of not in LABELS))
    raise FlowsRefused(
        f"flows cannot be grouped by {text!r}",
        kept="Nothing was changed.",
        remedy=f"Group by one of {names}, or by a label of an end: source.KEY, destination.KEY.",
    )


class Measure(str, enum.Enum):
    """What groups are ordered by."""

    CONNECTIONS = "connections"
    PACKETS = "packets"
    BYTES_OUT = "bytes out"
    BYTES_IN = "bytes in"
    BYTES = "bytes"
    """Both ways."""
    ENDED = "ended"
    SECONDS = "seconds"
    FIRST = "first"
    LAST = "last"
    GROUP = "group"
    """The dimensions' values, in their order; what is absent comes first."""


class FlowQuery(msgspec.Struct, frozen=True):
    """Flows summed up. Without dimensions there is one group (none where nothing matches).

    What is equal by ``order`` is ordered by its group, so that the same flows give the same answer.
    """

    where: FlowFilter = FlowFilter()
    by: tuple[Dimension, ...] = ()
    order: Measure = Measure.CONNECTIONS
    descending: bool = True
    limit: int = 1000


Value = str | int | None
"""A dimension's value in a group; None: a label, workload or network that is absent."""


class FlowGroup(msgspec.Struct, frozen=True):
    """One group: its values in the order of the dimensions, and the sum of its flows' tallies.

    The sum's ``first`` and ``last`` are the earliest and the latest of its flows'.
    """

    values: tuple[Value, ...]
    sums: Tally


class FlowGroups(msgspec.Struct, frozen=True):
    """The first ``limit`` groups of ``total``.

    ``since`` and ``until`` are what was answered: as asked, or wider where only minutes or hours are kept that far
    back. ``partial_before``: older than this not everything is kept that was asked for; None: all of it is.
    """

    groups: tuple[FlowGroup, ...]
    total: int
    since: float | None = None
    until: float | None = None
    partial_before: float | None = None


class FlowPiece(msgspec.Struct, frozen=True):
    """Flows from one moment to another, and a mark of them: of one text, they are the same flows.

    The same flows may have several texts. ``number`` is the same for the same part of time, however much of it was
    asked for.
    """

    number: int
    since: float
    until: float
    text: str


class FlowMark(msgspec.Struct, frozen=True):
    """What ``groups`` would read, in pieces of time, oldest first; pieces without flows are left out.

    What is read of each piece comes together to what is read of the whole. ``size`` is a piece's, in seconds: whole
    minutes or whole hours; the first and the last may be smaller. The moments are as in ``FlowGroups``.
    """

    pieces: tuple[FlowPiece, ...]
    size: int
    since: float
    until: float
    partial_before: float | None = None


class FlowPage(msgspec.Struct, frozen=True):
    """Flows as they were put, newest first. ``after`` asks for the page behind this one; None: there is none."""

    flows: tuple[StoredFlow, ...]
    after: str | None = None
    partial_before: float | None = None


class HostLoss(msgspec.Struct, frozen=True, order=True):
    """Something of one host's that was not recorded or is no longer kept, and when that was."""

    at: float
    host: HostId
    loss: FlowLoss


class Resolution(str, enum.Enum):
    """How finely flows are kept."""

    RAW = "raw"
    MINUTE = "minute"
    HOUR = "hour"


class Retention(msgspec.Struct, frozen=True):
    """How many days each resolution is kept, and how many bytes all of it may take on the disk (None: any)."""

    raw: int = 7
    minute: int = 30
    hour: int = 400
    bytes: int | None = None


class Kept(msgspec.Struct, frozen=True):
    """What is kept of one resolution: ``oldest`` and ``newest`` are moments of flows, None where there are none."""

    resolution: Resolution
    rows: int
    bytes: int
    oldest: float | None
    newest: float | None


class FlowStats(msgspec.Struct, frozen=True):
    """What the store holds, all of it in bytes on the disk, and what it may hold."""

    kept: tuple[Kept, ...]
    bytes: int
    retention: Retention
    where: str
    """``embedded`` or the server's name."""
    version: str
    """ClickHouse's."""


class FlowStore(Protocol):
    """Flows that were put, and answers about them."""

    def put(self, batches: Sequence[StoredBatch]) -> Put:
        """Store batches; what is there already is left as it is. When it returns they outlive this process.

        Where it raises, each batch is stored whole or not at all, and may be put again.
        """
        ...

    def groups(self, query: FlowQuery) -> FlowGroups:
        """Return flows summed up."""
        ...

    def mark(self, where: FlowFilter) -> FlowMark:
        """Return marks of the flows from one moment to another, in a few pieces: cheaper than to read them."""
        ...

    def flows(self, where: FlowFilter, limit: int, after: str | None = None) -> FlowPage:
        """Return single flows, newest first, from what a page before this one said comes ``after`` it."""
        ...

    def losses(self, since: float, until: float) -> tuple[HostLoss, ...]:
        """Return what was lost from ``since`` to before ``until``, oldest first."""
        ...

    def trim(self, now: float) -> tuple[HostLoss, ...]:
        """Forget what is older than the retention; where too much is left, the oldest, which is counted as lost.

        Return what was lost to the bound on the disk.
        """
        ...

    def stats(self) -> FlowStats:
        """Return what is held and what may be held."""
        ...

    def close(self) -> None:
        """Let go of it. Nothing is left to be written."""
        ...
