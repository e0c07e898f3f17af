"""Datagrams of exporters → flows. Templates are remembered by exporter, observation domain and number.

Promises, whatever the bytes: returns, in time that grows with their number; raises nothing; remembers as many templates
(``MOST_TEMPLATES`` a domain, ``MOST_DOMAINS`` an exporter, ``MOST_REMEMBERED`` fields in all) of many exporters. What
could not be read is counted, and what sequence numbers say was lost on the way: records in a set of which nobody has
sent the template are both.
"""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from stockade.adapters.netflow import elements
from stockade.adapters.netflow.elements import Clock, Fields
from stockade.core.model.ids import Address

V5, V9, IPFIX = 5, 9, 10
HEADER_5, RECORD_5 = struct.Struct("!HHIIIIBBH"), struct.Struct("!4s4s8xIIIIHHxBB9x")
HEADER_9, HEADER_IPFIX = struct.Struct("!HHIIII"), struct.Struct("!HHIII")
SET, PAIR = struct.Struct("!HH"), struct.Struct("!HH")
TEMPLATES, OPTIONS = {V9: 0, IPFIX: 2}, {V9: 1, IPFIX: 3}
FIRST_DATA = 256
VARIABLE = 0xFFFF
ENTERPRISE = 0x8000
MOST_FIELDS, MOST_TEMPLATES, MOST_DOMAINS, MOST_EXPORTERS = 256, 512, 64, 1024
MOST_REMEMBERED = 1 << 15
"""Fields of all templates of one exporter."""
FAR = 1 << 16
"""A sequence number that is further off than this is a new beginning, not a loss."""
SAMPLED = 0x3FFF


class Exported(msgspec.Struct, frozen=True):
    """One record: a flow as a device saw it, in one direction, or in both where it says so.

    ``port`` is the destination port, or for ICMP ``type * 256 + code``. Times are seconds since the epoch. Of
    ``sampled`` packets the device looked at one: counts are those of packets that it looked at. ``flags`` are all that
    its packets had of TCP's, 0 where it does not say. ``denied``: the device says that it let nothing of it pass.
    """

    exporter: str
    source: Address
    destination: Address
    protocol: int
    source_port: int
    port: int
    first: float
    last: float
    packets: int
    octets: int
    reply_packets: int = 0
    reply_octets: int = 0
    sampled: int = 1
    flags: int = 0
    denied: bool = False


class Losses(msgspec.Struct):
    """What did not become a flow. ``unknown``: sets whose template nobody has sent; ``nonsense``: datagrams that break
    off or contradict themselves; ``refused``: templates beyond what is remembered; ``incomplete``: records without
    two addresses; ``lost``: datagrams (NetFlow 9) or records that were sent and did not arrive.
    """

    unknown: int = 0
    nonsense: int = 0
    refused: int = 0
    incomplete: int = 0
    lost: int = 0


class Field(NamedTuple):
    """One field of a template; a ``length`` of ``VARIABLE`` stands in each record."""

    enterprise: int
    element: int
    length: int


class Template(NamedTuple):
    """What a record holds: of a flow, or of how the device works (``options``)."""

    fields: tuple[Field, ...]
    options: bool = False

    @property
    def least(self) -> int:
        """How many bytes a record has, at least."""
        return sum(1 if each.length == VARIABLE else each.length for each in self.fields)


class Record5(NamedTuple):
    """A record of NetFlow 5; ``first`` and ``last`` in milliseconds since the device began."""

    source: bytes
    destination: bytes
    packets: int
    octets: int
    first: int
    last: int
    source_port: int
    port: int
    flags: int
    protocol: int


class Domain:
    """What an exporter has told of one observation domain."""

    def __init__(self) -> None:
        self.templates: dict[int, Template] = {}
        self.fields = 0
        """Of all templates."""
        self.expected: int | None = None
        self.sampling = 1
        self.began: float | None = None

    def follow(self, sequence: int, count: int) -> int:
        """Take in a sequence number and how many it counts; return how many were missed."""
        expected, self.expected = self.expected, (sequence + count) & 0xFFFF_FFFF
        gap = 0 if expected is None else (sequence - expected) & 0xFFFF_FFFF
        if gap > 1 << 31:  # from before: it came late, and was counted as lost
            self.expected = expected
            return -count if 0x1_0000_0000 - gap < FAR else 0
        return gap if gap < FAR else 0


class Nonsense(Exception):  # noqa: N818 - reads as what it is
    """A datagram breaks off, or contradicts itself."""


class Collector:
    """Reads datagrams of any number of exporters. Not safe from several threads."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.sent = 0.0
        """When the last datagram was sent, by its exporter's clock; seconds since the epoch."""
        self._exporters: dict[str, dict[tuple[int, int], Domain]] = {}
        self._records = 0
        """How many records of data were read so far: what IPFIX's sequence numbers count."""

    def sampling(self, exporter: str) -> int:
        """Return of how many packets an exporter says that it looks at one; of several numbers the largest."""
        return max((each.sampling for each in self._exporters.get(exporter, {}).values()), default=1)

    def read(self, data: bytes, exporter: str) -> tuple[Exported, ...]:
        """Return the flows of one datagram. What cannot be read is counted; what stood before it counts."""
        found: list[Exported] = []
        try:
            (version,) = struct.unpack_from("!H", data)
            reader = {V5: self._read_5, V9: self._read_9, IPFIX: self._read_ipfix}.get(version)
            if reader is None:
                raise Nonsense(f"version {version}")
            for each in reader(data, exporter):
                found.append(each)  # noqa: PERF402 - what stood before the nonsense is kept
        except (Nonsense, struct.error):
            self.losses.nonsense += 1
        return tuple(found)

    # NetFlow 5: one kind of record

    def _read_5(self, data: bytes, exporter: str) -> Iterator[Exported]:
        _, count, uptime, seconds, nanoseconds, sequence, kind, number, sampling = HEADER_5.unpack_from(data)
        domain = self._domain(exporter, V5, kind << 8 | number)
        self._count(domain, sequence, count)
        domain.sampling = max(sampling & SAMPLED, 1)
        self.sent = seconds + nanoseconds / 1e9
        boot = self.sent - uptime / 1000
        for at in range(HEADER_5.size, HEADER_5.size + count * RECORD_5.size, RECORD_5.size):
            yield _of_5(Record5(*RECORD_5.unpack_from(data, at)), exporter, boot, domain.sampling)

    # NetFlow 9 and IPFIX: records by template

    def _read_9(self, data: bytes, exporter: str) -> Iterator[Exported]:
        _, _, uptime, seconds, sequence, source = HEADER_9.unpack_from(data)
        domain, self.sent = self._domain(exporter, V9, source), float(seconds)
        self._count(domain, sequence, 1)
        yield from self._sets(data, HEADER_9.size, V9, domain, exporter, Clock(seconds, seconds - uptime / 1000))

    def _read_ipfix(self, data: bytes, exporter: str) -> Iterator[Exported]:
        _, length, seconds, sequence, number = HEADER_IPFIX.unpack_from(data)
        if not HEADER_IPFIX.size <= length <= len(data):
            raise Nonsense("length")
        domain, self.sent = self._domain(exporter, IPFIX, number), float(seconds)
        before = self._records
        yield from self._sets(data[:length], HEADER_IPFIX.size, IPFIX, domain, exporter, Clock(seconds, domain.began))
        self._count(domain, sequence, self._records - before)

    def _sets(
        self, data: bytes, at: int, version: int, domain: Domain, exporter: str, clock: Clock
    ) -> Iterator[Exported]:
        while at + SET.size <= len(data):
            number, length = SET.unpack_from(data, at)
            if length < SET.size or at + length > len(data):
                raise Nonsense("set")
            body = data[at + SET.size : at + length]
            at += length
            if number in (TEMPLATES[version], OPTIONS[version]):
                self._learn(body, version, domain, exporter, options=number == OPTIONS[version])
            elif number >= FIRST_DATA and (template := domain.templates.get(number)):
                for fields in self._records_of(template, body):
                    if template.options:
                        _learn_options(fields, domain)
                    elif (flow := _flow(fields, exporter, clock, domain.sampling)) is not None:
                        yield flow
                    else:
                        self.losses.incomplete += 1
            elif number >= FIRST_DATA:
                self.losses.unknown += 1

    def _records_of(self, template: Template, body: bytes) -> Iterator[Fields]:
        at = 0
        while at + template.least <= len(body):
            record: dict[tuple[int, int], bytes] = {}
            for field in template.fields:
                length = field.length
                if length == VARIABLE:
                    length, at = _length(body, at)
                if at + length > len(body):
                    raise Nonsense("record")
                record.setdefault((field.enterprise, field.element), body[at : at + length])
                at += length
            self._records += 1
            yield record

    # Templates

    def _learn(self, body: bytes, version: int, domain: Domain, exporter: str, *, options: bool) -> None:
        at = 0
        while at + PAIR.size <= len(body):
            number, count = PAIR.unpack_from(body, at)
            at += PAIR.size
            if number < FIRST_DATA:
                return  # padding
            if version == IPFIX and count == 0:
                withdrawn = domain.templates.pop(number, None)  # RFC 7011, 8.1
                domain.fields -= len(withdrawn.fields) if withdrawn else 0
                continue
            if options:
                (more,) = struct.unpack_from("!H", body, at)
                at += 2
                count = count if version == IPFIX else (count + more) // PAIR.size
            template, at = _template(body, at, count, version, options=options)
            self._keep(domain, exporter, number, template)

    def _keep(self, domain: Domain, exporter: str, number: int, template: Template) -> None:
        before = domain.templates.get(number)
        more = len(template.fields) - (len(before.fields) if before else 0)
        held = sum(each.fields for each in self._exporters[exporter].values())
        full = len(domain.templates) >= MOST_TEMPLATES and before is None
        if template.least == 0 or full or held + more > MOST_REMEMBERED:
            self.losses.refused += 1
            return
        domain.templates[number] = template
        domain.fields += more

    # Within

    def _domain(self, exporter: str, version: int, number: int) -> Domain:
        if exporter not in self._exporters and len(self._exporters) >= MOST_EXPORTERS:
            self._exporters.pop(next(iter(self._exporters)))
        domains = self._exporters.setdefault(exporter, {})
        if (version, number) not in domains and len(domains) >= MOST_DOMAINS:
            domains.pop(next(iter(domains)))
        return domains.setdefault((version, number), Domain())

    def _count(self, domain: Domain, sequence: int, count: int) -> None:
        self.losses.lost = max(0, self.losses.lost + domain.follow(sequence, count))


def _template(body: bytes, at: int, count: int, version: int, *, options: bool) -> tuple[Template, int]:
    if count > MOST_FIELDS:
        raise Nonsense("template")
    fields = []
    for _ in range(count):
        element, length = PAIR.unpack_from(body, at)
        at += PAIR.size
        enterprise = 0
        if version == IPFIX and element & ENTERPRISE:
            (enterprise,) = struct.unpack_from("!I", body, at)
            at += 4
            element &= ~ENTERPRISE
        fields.append(Field(enterprise, element, length))
    return Template(tuple(fields), options), at


def _length(body: bytes, at: int) -> tuple[int, int]:
    """Read the length of a field that has one of its own (RFC 7011, 7); return where the field begins."""
    if at >= len(body):
        raise Nonsense("record")
    if body[at] < 0xFF:
        return body[at], at + 1
    (length,) = struct.unpack_from("!H", body, at + 1)
    return length, at + 3


def _learn_options(fields: Fields, domain: Domain) -> None:
    """What a device says of itself: one packet of how many it looks at, and since when it runs."""
    if (began := elements.number(fields, elements.STARTED)) is not None:
        domain.began = began / 1000
    if sampling := elements.number(fields, elements.SAMPLING, elements.SAMPLING_PACKETS):
        domain.sampling = sampling


def _flow(fields: Fields, exporter: str, clock: Clock, sampling: int) -> Exported | None:
    ends = elements.addresses(fields)
    if ends is None:
        return None
    protocol = elements.number(fields, elements.PROTOCOL) or 0
    first, last = elements.times(fields, clock)

    def count(*told: int) -> int:
        return elements.number(fields, *told) or 0

    def back(*told: int) -> int:
        return elements.number(fields, *told, enterprise=elements.REVERSE) or 0

    return Exported(
        exporter,
        *ends,
        protocol,
        count(elements.SOURCE_PORT) & 0xFFFF,
        elements.port(fields, protocol),
        first,
        last,
        count(elements.PACKETS, elements.PACKETS_TOTAL, elements.INITIATOR_PACKETS),
        count(elements.OCTETS, elements.OCTETS_TOTAL, elements.INITIATOR_OCTETS),
        back(elements.PACKETS, elements.PACKETS_TOTAL) or count(elements.RESPONDER_PACKETS),
        back(elements.OCTETS, elements.OCTETS_TOTAL) or count(elements.RESPONDER_OCTETS),
        count(elements.SAMPLING, elements.SAMPLING_PACKETS) or sampling,
        count(elements.TCP_FLAGS) & 0xFF,
        elements.denied(fields),
    )


def _of_5(record: Record5, exporter: str, boot: float, sampling: int) -> Exported:
    return Exported(
        exporter,
        Address(socket.inet_ntoa(record.source)),
        Address(socket.inet_ntoa(record.destination)),
        record.protocol,
        record.source_port,
        record.port,
        boot + min(record.first, record.last) / 1000,
        boot + record.last / 1000,
        record.packets,
        record.octets,
        sampled=sampling,
        flags=record.flags,
    )
