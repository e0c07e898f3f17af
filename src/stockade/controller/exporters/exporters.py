"""Datagrams of devices → batches of flows, each under its device's name (``netflow:ADDRESS``), and what is known of it.

A device tells what it saw pass, never that a policy allowed it: its flows are what was ``carried``, without a rule.
What it says that it denied is told as denied by it. Whoever is not on the list of exporters is counted and not read.
"""

import ipaddress
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from stockade.adapters.netflow import Collector
from stockade.controller.exporters.pairing import Connection, Pairing
from stockade.core.model.flow import BY_EXPORTER, EXPORTER, Flow, FlowKey, FlowLoss, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, told
from stockade.core.model.ids import Address, HostId, RuleId
from stockade.core.model.packet import Direction
from stockade.wire.exporters import ExporterView

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_EXPORTERS = 256
TOGETHER = 4000
"""Flows of one batch."""
SAME_CLOCK = 0.5
"""Seconds that a device's clock may differ and count as right."""
LONGEST = 3600.0
"""Seconds before now that a flow may be told to have begun; one that began earlier is stored as of then."""
VERSIONS = {5: "NetFlow 5", 9: "NetFlow 9", 10: "IPFIX"}
LISTENER = HostId(EXPORTER.removesuffix(":"))
"""Under which what nobody's device lost is told."""
WHERE = "netflow"


class _Exporter:
    """One device."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.collector, self.pairing = Collector(), Pairing()
        self.heard = self.behind = 0.0
        self.datagrams = self.records = self.flows = 0
        self.versions: set[str] = set()
        self.stream, self.number = uuid.uuid4().hex, 0
        self.told: Counter[str] = Counter()

    def hear(self, data: bytes, now: float) -> None:
        self.heard = now
        self.datagrams += 1
        found = self.collector.read(data, self.address)
        if found:
            self.versions.add(VERSIONS[int.from_bytes(data[:2], "big")])
        self.behind = now - self.collector.sent if self.collector.sent else 0.0
        shift = self.behind if abs(self.behind) > SAME_CLOCK else 0.0
        for each in found:
            self.records += 1
            last = min(each.last + shift, now)
            self.pairing.add(each, min(each.first + shift, last), last)

    def losses(self) -> tuple[FlowLoss, ...]:
        """Return what was lost since this was last asked."""
        lost = Counter(_lost(self.collector))
        new = lost - self.told
        self.told |= lost
        return tuple(FlowLoss(WHERE, what, count) for what, count in sorted(new.items()))

    def view(self) -> ExporterView:
        lost = _lost(self.collector)
        return ExporterView(
            Address(self.address),
            self.heard,
            tuple(sorted(self.versions)),
            self.datagrams,
            self.records,
            lost.pop("records or datagrams on their way"),
            sum(lost.values()),
            self.collector.sampling(self.address),
            self.behind if abs(self.behind) > SAME_CLOCK else 0.0,
            self.flows,
        )


def _lost(collector: Collector) -> dict[str, int]:
    losses = collector.losses
    return {
        "records or datagrams on their way": losses.lost,
        "sets without their template": losses.unknown,
        "datagrams that mean nothing": losses.nonsense,
        "templates beyond what is kept": losses.refused,
        "records without two addresses": losses.incomplete,
    }


class Exporters:
    """Every device that was heard. For one thread, but ``views``."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = tuple(allowed)
        self._known: dict[str, _Exporter] = {}
        self._stream, self._number = uuid.uuid4().hex, 0
        self._lost: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self.refused = 0
        """Datagrams of devices that are not on the list, or of too many of those."""

    def hear(self, data: bytes, sender: str, now: float) -> None:
        """Take in one datagram."""
        known = self._known.get(sender)
        if known is None:
            if len(self._known) >= MOST_EXPORTERS or not self._allows(sender):
                self.refused += 1
                return
            known = self._known[sender] = _Exporter(sender)
        known.hear(data, now)

    def lose(self, what: str, count: int) -> None:
        """Something was lost before it was anybody's: so many in all."""
        self._lost[what] = count

    @property
    def full(self) -> bool:
        """Whether so much waits that some should be taken now."""
        return any(each.pairing.full for each in self._known.values())

    def take(self, now: float, *, everything: bool = False) -> Iterator[FlowBatch]:
        """Yield what has waited long enough, in batches, and what was lost."""
        for address in sorted(self._known):
            device = self._known[address]
            flows = _flows(device.pairing.take(everything=everything or device.pairing.full), now)
            device.flows += len(flows)
            host, lost = HostId(f"{EXPORTER}{address}"), device.losses()
            for at in range(0, max(len(flows), bool(lost)), TOGETHER):
                some = flows[at : at + TOGETHER]
                yield _batch(host, device.stream, device.number, now, some, lost if not at else ())
                device.number += 1
        self._lost["datagrams of exporters that are not on the list"] = self.refused
        if new := self._lost - self._told:
            self._told |= self._lost
            lost = tuple(FlowLoss(WHERE, what, count) for what, count in sorted(new.items()))
            yield _batch(LISTENER, self._stream, self._number, now, (), lost)
            self._number += 1

    def unsay(self, batch: FlowBatch) -> None:
        """A batch will never be stored: what it would have told of losses is told with the next."""
        known = self._known.get(batch.host.removeprefix(EXPORTER))
        told = self._told if known is None else known.told
        told.subtract({each.what: each.count for each in batch.lost})

    def views(self) -> tuple[ExporterView, ...]:
        """Return what is known of each device, by address. From any thread."""
        return tuple(sorted((each.view() for each in self._known.copy().values()), key=lambda each: each.address))

    def _allows(self, sender: str) -> bool:
        at = ipaddress.ip_address(sender)
        return any(at in each for each in self._allowed)


def _batch(
    host: HostId, stream: str, number: int, now: float, flows: tuple[Flow, ...], lost: tuple[FlowLoss, ...]
) -> FlowBatch:
    since = min((each.tally.first for each in flows), default=now)
    return FlowBatch(host, stream, number, since, now, now, told(flows), lost)


def _flows(connections: Iterable[Connection], now: float) -> tuple[Flow, ...]:
    """Sum up connections that differ in their source's port alone, sorted."""
    sums: dict[FlowKey, Tally] = {}
    for each in connections:
        key, tally = _key(each), _tally(each, now - LONGEST)
        sums[key] = sums[key] + tally if key in sums else tally
    return tuple(Flow(key, sums[key]) for key in sorted(sums, key=_order))


def _order(key: FlowKey) -> tuple[object, ...]:
    return key.source, key.destination, key.protocol, key.port, key.verdict.value


def _key(each: Connection) -> FlowKey:
    """Neither end judged: it is told as from its source's, where a connection that is denied on its way was seen."""
    ends = each.ends
    verdict, rule = (Verdict.DENIED, BY_EXPORTER) if each.denied else (Verdict.CARRIED, RuleId(""))
    return FlowKey(ends.source, ends.destination, ends.protocol, ends.port, Direction.EGRESS, verdict, rule)


def _tally(each: Connection, earliest: float) -> Tally:
    first = min(max(each.first, earliest), max(each.last, earliest))
    last = max(each.last, first)
    if each.denied:
        return Tally(first, last, 1, each.packets, each.bytes_out)
    seconds = max(each.last - each.first, 0.0)
    return Tally(first, last, 0, each.packets, each.bytes_out, each.bytes_in, 1, seconds)
