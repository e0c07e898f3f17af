"""Packets by hand: what is built is read back the same, and checksums are what the standards say."""

import struct

import pytest

from stockade.testing.probe import packets

FOUR, SIX = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


def whole(source, destination, protocol, payload, **fields):
    return packets.ethernet(
        "02:00:00:00:00:01", "02:00:00:00:00:02", packets.ip(source, destination, protocol, payload, **fields)
    )


def test_crc32c_is_castagnoli():
    assert packets.crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4 uses the same polynomial
    assert packets.crc32c(bytes(32)) == 0x8A9136AA


def test_checksum_is_rfc_1071():
    assert packets.checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


@pytest.mark.parametrize("ends", [FOUR, SIX])
@pytest.mark.parametrize("protocol", [packets.TCP, packets.UDP, packets.SCTP])
def test_what_is_built_is_read_back(ends, protocol):
    segment = {
        packets.TCP: packets.tcp(*ends, 1234, 80, flags=packets.ACK, payload=b"STK0123456789ab"),
        packets.UDP: packets.udp(*ends, 1234, 80, b"STK0123456789ab"),
        packets.SCTP: packets.sctp(1234, 80, 7, packets.chunk(packets.HEARTBEAT, b"STK0123456789ab")),
    }[protocol]
    frame = packets.parse(whole(*ends, protocol, segment, ttl=9))
    assert (frame.source, frame.destination, frame.protocol) == (*ends, protocol)
    assert (frame.source_port, frame.port, frame.ttl, frame.nonce) == (1234, 80, 9, "STK0123456789ab")
    assert frame.flags == (packets.ACK if protocol == packets.TCP else 0)


@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_checksums_verify_to_zero(ends):
    for protocol, message in (
        (packets.TCP, packets.tcp(*ends, 1, 2, payload=b"odd")),
        (packets.UDP, packets.udp(*ends, 1, 2, b"odd")),
    ):
        pseudo = packets.packed(ends[0]) + packets.packed(ends[1]) + struct.pack("!II", len(message), protocol)
        assert packets.checksum(pseudo + message) == 0
    assert packets.checksum(packets.ip(*FOUR, packets.UDP, b"")[:20]) == 0


@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_fragments_carry_the_whole_and_only_the_first_has_ports(ends):
    packet = packets.ip(*ends, packets.UDP, packets.udp(*ends, 5, 6, b"x" * 100))
    head = 40 if ":" in ends[0] else 20
    parts = packets.fragments(packet, 64)
    extra = 8 if ":" in ends[0] else 0
    assert b"".join(part[head + extra :] for part in parts) == packet[head:]
    read = [packets.parse_ip(part) for part in parts]
    assert [(each.fragment, each.port) for each in read] == [(0, 6), (64, 0)]


def test_tags_ethertypes_and_arp_are_read():
    tagged = packets.ethernet(
        "02:00:00:00:00:01", packets.BROADCAST, packets.ip(*FOUR, packets.UDP, packets.udp(*FOUR, 1, 2)), vlan=0
    )
    assert (packets.parse(tagged).vlan, packets.parse(tagged).port) == (0, 2)
    odd = packets.ethernet("02:00:00:00:00:01", packets.BROADCAST, b"STK0123456789ab", ethertype=0x88B5)
    assert (packets.parse(odd).ethertype, packets.parse(odd).nonce) == (0x88B5, "STK0123456789ab")
    asked = packets.arp("02:00:00:00:00:01", "10.0.0.1", "10.0.0.2")
    read = packets.parse(packets.ethernet("02:00:00:00:00:01", packets.BROADCAST, asked, ethertype=packets.ARP))
    assert (read.source, read.destination, read.port) == ("10.0.0.1", "10.0.0.2", 1)


@pytest.mark.parametrize("length", range(0, 54, 3))
def test_torn_frames_are_read_as_far_as_they_go(length):
    frame = whole(*FOUR, packets.TCP, packets.tcp(*FOUR, 1, 2))
    assert packets.parse(frame[:length]).length == length
    six = whole(*SIX, packets.TCP, packets.tcp(*SIX, 1, 2))
    assert packets.parse(six[:length]).length == length
