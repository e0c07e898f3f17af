"""Which fields of an exported record mean what (RFC 3954, 8; IANA's IPFIX Information Elements), and how they are read.

A field of any width is an unsigned number, most significant byte first; addresses are four or sixteen bytes.
"""

import ipaddress
import struct
from collections.abc import Mapping
from typing import NamedTuple

from stockade.core.model.ids import Address

REVERSE = 29305
"""The private enterprise number under which a biflow's other direction has the same fields (RFC 5103, 6.1)."""
OCTETS, PACKETS, PROTOCOL, TCP_FLAGS, SOURCE_PORT, SOURCE_4, DESTINATION_PORT, DESTINATION_4 = 1, 2, 4, 6, 7, 8, 11, 12
LAST_UPTIME, FIRST_UPTIME, SOURCE_6, DESTINATION_6, ICMP_4, SAMPLING = 21, 22, 27, 28, 32, 34
OCTETS_TOTAL, PACKETS_TOTAL, ICMP_6 = 85, 86, 139
FIRST_SECONDS, LAST_SECONDS, FIRST_MILLISECONDS, LAST_MILLISECONDS = 150, 151, 152, 153
FIRST_NTP, LAST_NTP, FIRST_NTP_FINE, LAST_NTP_FINE, STARTED = 154, 155, 156, 157, 160
ICMP_TYPE_4, ICMP_CODE_4, ICMP_TYPE_6, ICMP_CODE_6 = 176, 177, 178, 179
INITIATOR_OCTETS, RESPONDER_OCTETS, INITIATOR_PACKETS, RESPONDER_PACKETS, SAMPLING_PACKETS = 231, 232, 298, 299, 305
FORWARDING, FIREWALL_EVENT, FIREWALL_EVENT_BEFORE = 89, 233, 40005
DENIED_EVENT = 3
DROPPED = 0b10
"""Of a forwarding status the upper two bits (RFC 7270, 4.12)."""
NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""
ICMP, ICMPV6 = 1, 58

Fields = Mapping[tuple[int, int], bytes]
"""A record: (enterprise, element) → its bytes."""


class Clock(NamedTuple):
    """When a datagram was sent, and when the device began, where it says so, in seconds since the epoch."""

    sent: float
    began: float | None = None


def number(fields: Fields, *elements: int, enterprise: int = 0) -> int | None:
    """Return the first of these elements that is there, as a number."""
    found = (fields.get((enterprise, each)) for each in elements)
    return next((int.from_bytes(each, "big") for each in found if each is not None), None)


def addresses(fields: Fields) -> tuple[Address, Address] | None:
    """Return source and destination; None where they are not there, or not of one family. IPv6 where both are."""
    for source, destination, width in ((SOURCE_6, DESTINATION_6, 16), (SOURCE_4, DESTINATION_4, 4)):
        ends = fields.get((0, source)), fields.get((0, destination))
        if ends[0] is not None and ends[1] is not None and len(ends[0]) == len(ends[1]) == width and any(ends[0]):
            return Address(str(ipaddress.ip_address(ends[0]))), Address(str(ipaddress.ip_address(ends[1])))
    return None


def denied(fields: Fields) -> bool:
    """Tell whether the device says that it dropped this: a firewall's event, or a router's forwarding status."""
    event = number(fields, FIREWALL_EVENT, FIREWALL_EVENT_BEFORE)
    return event == DENIED_EVENT or ((number(fields, FORWARDING) or 0) & 0xFF) >> 6 == DROPPED


def port(fields: Fields, protocol: int) -> int:
    """Return the destination port, or for ICMP ``type * 256 + code``."""
    if protocol in (ICMP, ICMPV6):
        whole = number(fields, ICMP_4 if protocol == ICMP else ICMP_6)
        kind, code = (ICMP_TYPE_4, ICMP_CODE_4) if protocol == ICMP else (ICMP_TYPE_6, ICMP_CODE_6)
        if whole is None and (told := number(fields, kind)) is not None:
            whole = told << 8 | (number(fields, code) or 0)
        if whole is not None:
            return whole & 0xFFFF
    return (number(fields, DESTINATION_PORT) or 0) & 0xFFFF


def times(fields: Fields, clock: Clock) -> tuple[float, float]:
    """Return when the first and the last packet were seen, in seconds since the epoch; where unsaid, when sent."""
    first = _time(fields, clock, FIRST_MILLISECONDS, FIRST_SECONDS, (FIRST_NTP, FIRST_NTP_FINE), FIRST_UPTIME)
    last = _time(fields, clock, LAST_MILLISECONDS, LAST_SECONDS, (LAST_NTP, LAST_NTP_FINE), LAST_UPTIME)
    last = clock.sent if last is None else last
    return min(last if first is None else first, last), last


def _time(
    fields: Fields, clock: Clock, milliseconds: int, seconds: int, fine: tuple[int, int], uptime: int
) -> float | None:
    if (found := number(fields, milliseconds)) is not None:
        return found / 1000
    for each in fine:
        told = fields.get((0, each))
        if told is not None and len(told) == 8:
            whole, fraction = struct.unpack("!II", told)
            return float(whole) - NTP_EPOCH + float(fraction) / (1 << 32)
    if (found := number(fields, seconds)) is not None:
        return float(found)
    found = number(fields, uptime)
    if found is None:
        return None
    started = number(fields, STARTED)
    began = clock.began if started is None else started / 1000
    return None if began is None else began + found / 1000
