"""Virtual machines by what QEMU's processes, libvirt's files and their links say, with frames made by hand."""

import ipaddress
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stockade.adapters.qemu.commandline import Card, is_machine, read
from stockade.adapters.qemu.domains import LARGEST, domain, domains
from stockade.adapters.qemu.hearing import FILTER, Claim, claim
from stockade.adapters.qemu.learning import MOST, Learning, believable
from stockade.adapters.qemu.processes import ANEW, SETTLED, Looking
from stockade.adapters.qemu.runtime import QemuRuntime
from stockade.controller.clock import SystemClock
from stockade.core.model.ids import Address, HostId, Prefix
from stockade.testing.probe import packets

MAC, OTHER = "52:54:00:00:00:07", "52:54:00:00:00:08"
SUBNETS = (Prefix("10.7.0.0/24"), Prefix("fd00:7::/64"))

# Command lines


@pytest.mark.parametrize("name", ["qemu-system-x86", "qemu-system-aar", "qemu-kvm", "kvm"])
def test_these_are_machines(name: str) -> None:
    assert is_machine(name)


@pytest.mark.parametrize("name", ["qemu-img", "kvm-irqfd-clean", "qemu-nbd", ""])
def test_these_are_none(name: str) -> None:
    assert not is_machine(name)


def test_a_command_line_by_hand() -> None:
    words = (
        "qemu-system-x86_64 -name web,,1,debug-threads=on -uuid A3BB189E-8BF9-3888-9912-ACE4E6543002 "
        "-netdev tap,id=n0,ifname=vm7,script=no -device virtio-net-pci,netdev=n0,mac=52:54:00:00:00:07 "
        "-netdev user,id=n1 -device e1000,netdev=n1 -nic tap,ifname=vm8,model=virtio"
    )
    told = read(words.split(" "))
    assert (told.name, told.uuid) == ("web,1", "a3bb189e-8bf9-3888-9912-ace4e6543002")
    assert told.cards == (Card(MAC, "vm7"), Card("52:54:00:12:34:57", "vm8"))


def test_a_command_line_as_libvirt_writes_it() -> None:
    told = read([
        "/usr/bin/qemu-system-x86_64", "-name", "guest=db,debug-threads=on",
        "-netdev", '{"type":"tap","fd":"33","vhost":true,"vhostfd":"35","id":"hostnet0"}',
        "-device", '{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"52:54:00:00:00:07","bus":"p"}',
        "-netdev", "tap,fds=36:37,id=hostnet1", "-device", f"virtio-net-pci,netdev=hostnet1,mac={OTHER.upper()}",
    ])  # fmt: skip
    assert told.name == "db"
    assert told.cards == (Card(MAC, fds=(33,)), Card(OTHER, fds=(36, 37)))


@pytest.mark.parametrize(
    "words", [[], ["x"], ["x", "-name"], ["x", "-device", "{"], ["x", "-netdev", "tap"], ["x", "-"]]
)
def test_what_cannot_be_read_is_passed_over(words: list[str]) -> None:
    assert read(words).cards == ()


# libvirt's files

STATUS = """<!--
WARNING: THIS IS AN AUTO-GENERATED FILE.
-->
<domstatus state='running' reason='booted' pid='{pid}'>
  <domain type='kvm' id='1'>
    <name>db</name>
    <uuid>A3BB189E-8BF9-3888-9912-ACE4E6543002</uuid>
    <title>The orders' database</title>
    <metadata>
      <own:owner xmlns:own="urn:example:own" team="orders">payments</own:owner>
      <own:tags xmlns:own="urn:example:own"><own:tag>prod</own:tag></own:tags>
    </metadata>
  </domain>
</domstatus>
"""


def test_a_running_domain_tells_its_name_and_its_metadata(tmp_path: Path) -> None:
    (tmp_path / "db.xml").write_text(STATUS.format(pid=4711))
    (tmp_path / "broken.xml").write_text("<domstatus")
    (tmp_path / "db.pid").write_text("4711")
    (found,) = domains(tmp_path).values()
    assert (found.pid, found.name, found.uuid) == (4711, "db", "a3bb189e-8bf9-3888-9912-ace4e6543002")
    assert found.words == (
        ("metadata.owner", "payments"),
        ("metadata.owner.team", "orders"),
        ("metadata.tags.tag", "prod"),
        ("title", "The orders' database"),
    )


def test_where_libvirt_does_not_run_there_are_no_domains(tmp_path: Path) -> None:
    assert domains(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"<domstatus pid='1'/>",
        STATUS.format(pid="x").encode(),
        STATUS.format(pid=1).replace("'running'", "'shutoff'").encode(),
        b"<!DOCTYPE d [<!ENTITY a 'aaaa'>]>" + STATUS.format(pid=1).encode(),
        STATUS.format(pid=1).encode() + b" " * LARGEST,
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_passed_over(status: bytes) -> None:
    assert domain(status) is None


# Frames


def arp(mac: str, address: str, inner: str = "") -> bytes:
    return packets.ethernet(
        mac, packets.BROADCAST, packets.arp(inner or mac, address, "10.7.0.1"), ethertype=packets.ARP
    )


def dhcp(kind: int, mac: str, given: str, options: bytes = b"") -> bytes:
    head = struct.pack(
        "!BBBBIHH4s4s4s4s", 2, 1, 6, 0, 7, 0, 0, bytes(4), ipaddress.IPv4Address(given).packed, *[bytes(4)] * 2
    )
    message = head + bytes.fromhex(mac.replace(":", "")).ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63"
    message += options + bytes((53, 1, kind, 255))
    segment = packets.udp("10.7.0.1", given, 67, 68, message)
    return packets.ethernet(OTHER, mac, packets.ip("10.7.0.1", given, packets.UDP, segment))


def discovery(mac: str, source: str, kind: int, target: str) -> bytes:
    body = bytes(4) + ipaddress.IPv6Address(target).packed
    message = packets.icmp6(source, "ff02::1", kind, 0, body)
    return packets.ethernet(mac, "33:33:00:00:00:01", packets.ip(source, "ff02::1", packets.ICMP6, message, ttl=255))


def test_a_question_by_arp_claims_who_asks() -> None:
    assert claim(arp(MAC, "10.7.0.7"), outgoing=False) == Claim(MAC, Address("10.7.0.7"))


def test_a_probe_claims_nothing_and_nor_does_what_another_s_mac_says() -> None:
    assert claim(arp(MAC, "0.0.0.0"), outgoing=False) is None
    assert claim(arp(MAC, "10.7.0.7", inner=OTHER), outgoing=False) is None
    assert claim(arp(MAC, "10.7.0.7"), outgoing=True) is None


@pytest.mark.parametrize(
    ("source", "kind", "target", "claimed"),
    [
        ("fd00:7::7", 135, "fd00:7::1", "fd00:7::7"),
        ("::", 135, "fd00:7::7", "fd00:7::7"),
        ("fd00:7::9", 136, "fd00:7::7", "fd00:7::7"),
    ],
)
def test_neighbour_discovery_claims(source: str, kind: int, target: str, claimed: str) -> None:
    assert claim(discovery(MAC, source, kind, target), outgoing=False) == Claim(MAC, Address(claimed))


def test_a_lease_is_a_server_s_word_to_the_machine() -> None:
    given = Claim(MAC, Address("10.7.0.50"), leased=True)
    assert claim(dhcp(5, MAC, "10.7.0.50"), outgoing=True) == given
    assert claim(dhcp(5, MAC, "10.7.0.50", options=bytes((0, 1, 4, 1, 2, 3, 4))), outgoing=True) == given
    assert claim(dhcp(2, MAC, "10.7.0.50"), outgoing=True) is None, "an offer is none yet"
    assert claim(dhcp(5, MAC, "10.7.0.50"), outgoing=False) is None, "nor is what a machine says itself"


def test_no_frame_is_too_short_to_be_read() -> None:
    for frame in (arp(MAC, "10.7.0.7"), dhcp(5, MAC, "10.7.0.50"), discovery(MAC, "::", 135, "fd00:7::7")):
        for length in range(len(frame)):
            for outgoing in (False, True):
                claim(frame[:length], outgoing=outgoing)


def passed(frame: bytes) -> bool:
    """Run the filter as the kernel does (classic BPF), on a frame that is long enough."""
    held, index, at = 0, 0, 0
    while True:
        code, yes, no, value = FILTER[at]
        at += 1
        if code == 0x06:
            return value > 0
        if code == 0x15:
            at += yes if held == value else no
        elif code == 0xB1:
            index = 4 * (frame[value] & 0xF)
        elif code == 0x30:
            held = frame[value]
        else:
            held = int.from_bytes(frame[value + (index if code == 0x48 else 0) :][:2], "big")


def test_the_kernel_picks_out_these_frames_and_no_others() -> None:
    udp = packets.udp("10.7.0.7", "10.7.0.1", 5000, 53, b"?" * 20)
    other = packets.ethernet(MAC, OTHER, packets.ip("10.7.0.7", "10.7.0.1", packets.UDP, udp))
    ping = packets.ip(
        "fd00:7::7", "fd00:7::1", packets.ICMP6, packets.icmp6("fd00:7::7", "fd00:7::1", 128, 0, bytes(8))
    )
    wanted = [arp(MAC, "10.7.0.7"), dhcp(5, MAC, "10.7.0.50"), discovery(MAC, "::", 135, "fd00:7::7")]
    wanted.append(discovery(MAC, "fd00:7::7", 136, "fd00:7::7"))
    assert [passed(each) for each in wanted] == [True] * 4
    assert [passed(each.ljust(64, b"\0")) for each in (other, packets.ethernet(MAC, OTHER, ping))] == [False, False]
    assert not passed(packets.ethernet(MAC, OTHER, bytes(60), ethertype=0x88B5))


# Whose an address is


def learned(*claims: tuple[str, str, str], subnets: tuple[Prefix, ...] = SUBNETS) -> Learning:
    found = Learning()
    for port, mac, address in claims:
        found.hear(port, mac, subnets, Claim(mac, Address(address)))
    return found


def test_who_had_an_address_first_keeps_it_while_it_lives() -> None:
    found = learned(("a", MAC, "10.7.0.7"), ("b", OTHER, "10.7.0.7"))
    assert (found.of("a"), found.of("b"), found.refused) == (("10.7.0.7",), (), 1)
    found.keep({"b": OTHER})
    assert found.hear("b", OTHER, SUBNETS, Claim(OTHER, Address("10.7.0.7")))


def test_a_claim_for_another_mac_than_the_port_s_does_not_count() -> None:
    found = Learning()
    assert not found.hear("a", MAC, SUBNETS, Claim(OTHER, Address("10.7.0.7")))
    assert not found.hear("a", "", SUBNETS, Claim(OTHER, Address("10.7.0.7")))
    assert (found.of("a"), found.refused) == ((), 1)


def test_a_new_lease_takes_the_place_of_the_last() -> None:
    found = learned(("a", MAC, "10.7.0.7"))
    for address in ("10.7.0.50", "10.7.0.51"):
        assert found.hear("a", MAC, SUBNETS, Claim(MAC, Address(address), leased=True))
    assert found.of("a") == ("10.7.0.51", "10.7.0.7")


def test_a_port_has_so_many_addresses_and_no_more() -> None:
    found = learned(*(("a", MAC, f"10.7.0.{n}") for n in range(1, MOST + 9)))
    assert (len(found.of("a")), found.refused) == (MOST, 8)


@pytest.mark.parametrize(
    ("address", "subnets", "believed"),
    [
        ("10.7.0.7", SUBNETS, True),
        ("10.8.0.7", SUBNETS, False),
        ("10.7.0.255", SUBNETS, False),
        ("8.8.8.8", SUBNETS, False),
        ("8.8.8.8", (), False),
        ("192.168.1.7", (), True),
        ("fe80::7", SUBNETS, True),
        ("fd00:7::7", SUBNETS, True),
        ("2001:db8::7", SUBNETS, False),
    ],
)
def test_what_can_be_a_neighbour_s(address: str, subnets: tuple[Prefix, ...], believed: bool) -> None:
    assert believable(Address(address), subnets) is believed


# The kernel's word for who holds a tap


def running(proc: Path, pid: int, program: str) -> None:
    """Have a process be this program from now on."""
    folder = proc / str(pid)
    for each in ("fd", "fdinfo", "ns"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    (folder / "comm").write_text(f"{program}\n")
    (folder / "cmdline").write_text(f"{program}\0-name\0guest=seven\0")
    (folder / "stat").write_text(f"{pid} ({program}) S {' '.join(map(str, range(30)))}")
    (folder / "fdinfo/7").write_text("pos:\t0\niff:\tvm7\n")
    for link, to in (("fd/7", "/dev/net/tun"), ("ns/net", "net:[1]")):
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(to)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    running(tmp_path, 1, "init")
    (tmp_path / "self").symlink_to("1")
    return tmp_path


def found(looking: Looking) -> list[int]:
    return [each.pid for each in looking.machines()]


def test_a_process_that_becomes_a_machine_is_met(proc: Path) -> None:
    looking = Looking(proc)
    running(proc, 70, "libvirtd")
    assert found(looking) == []
    running(proc, 70, "qemu-system-x86")
    assert found(looking) == [70]


def test_who_was_often_none_is_read_now_and_then_only(proc: Path) -> None:
    """A pid that is given again is new where one look missed it; where none did it is met some looks later."""
    looking = Looking(proc)
    running(proc, 70, "sleep")
    assert [found(looking) for _ in range(SETTLED)] == [[]] * SETTLED
    (proc / "70/comm").rename(proc / "comm")
    (proc / "70").rename(proc / "away")
    assert found(looking) == []
    (proc / "away").rename(proc / "70")
    running(proc, 70, "kvm")
    assert found(looking) == [70], "it was away meanwhile"
    running(proc, 71, "sleep")
    for _ in range(SETTLED):
        found(looking)
    running(proc, 71, "kvm")
    looks = [found(looking) for _ in range(ANEW)]
    assert looks[0] == [70], "it is taken for what it was"
    assert looks[-1] == [70, 71]


def test_a_process_that_becomes_a_machine_late_is_met_where_a_stranger_is(proc: Path, tmp_path: Path) -> None:
    """A script that waits and then runs a machine in its own place: its tap is nobody's until somebody looks again."""
    runtime = QemuRuntime(HostId("host-a"), taps=dict, clock=SystemClock(), proc=proc, libvirt=tmp_path / "none")
    running(proc, 70, "sh")
    for _ in range(SETTLED + 1):
        assert found(runtime._looking) == []
    running(proc, 70, "kvm")
    runtime.heed_strangers([])
    assert found(runtime._looking) == []
    runtime.heed_strangers(iter(["vm7"]))
    assert found(runtime._looking) == [70]


HOLD = textwrap.dedent("""
    import ctypes, fcntl, os, struct, sys, time
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"vm7", 0x1002))
    ctypes.CDLL(None).prctl(15, b"qemu-system-x86")
    print("ready", flush=True)
    sys.stdin.read()
""")
LOOK = textwrap.dedent("""
    from stockade.adapters.qemu.processes import Looking
    print([(each.taps, each.told.name) for each in Looking().machines() if each.taps])
""")


@pytest.mark.real
@pytest.mark.skipif(not os.access("/dev/net/tun", os.W_OK), reason="this machine has no /dev/net/tun")
def test_a_tap_is_whose_process_holds_it_open() -> None:
    script = textwrap.dedent(f"""
        import subprocess, sys
        held = subprocess.Popen([sys.executable, "-c", {HOLD!r}, "-name", "guest=seven"], stdin=-1, stdout=-1)
        held.stdout.readline()
        try:
            subprocess.run([sys.executable, "-c", {LOOK!r}], check=True)
        finally:
            held.communicate()
    """)
    said = subprocess.run(
        ["unshare", "-Urn", sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "'vm7')" in said
    assert "seven" in said
