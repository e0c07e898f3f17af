"""What a host is, as far as it can be seen from inside: interfaces, bridges, addresses, resolvers, SSH sessions."""

import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import msgspec

from stockade.adapters.netlink.namespace import Namespace, inside
from stockade.adapters.netlink.values import LinkSeen, LinksListed
from stockade.adapters.netlink.watch import list_links
from stockade.core.model.ids import Address, HostId, Realm, WorkloadId
from stockade.core.model.inventory import Attachment, Bridge, BridgeState, Endpoint, Failsafe, Host
from stockade.core.model.net import Protocol, canonical_address

PROC = Path("/proc")
RESOLVERS = Path("/etc/resolv.conf")
SWITCHES = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
BRIDGE_TRACKING = "nf_conntrack_bridge"
BRIDGE_TRACKING_SYMBOL = b" nf_ct_bridge_post"
"""A function of that module: it shows where the kernel has it built in and lists no such modules."""
SSH, SSH_DAEMONS = 22, ("sshd", "sshd-session", "dropbear")
ESTABLISHED, LISTENING = "01", "0A"


class HostFacts(msgspec.Struct, frozen=True):
    """A host in the model's words, its own endpoint, and the links that this was read from."""

    host: Host
    endpoint: Endpoint
    links: LinksListed


def host_facts(
    host: HostId,
    workload: WorkloadId,
    *,
    namespace: Namespace | None = None,
    uplinks: Iterable[str] = (),
    realms: Iterable[tuple[str, Realm]] = (),
    resolvers: Path = RESOLVERS,
    links: LinksListed | None = None,
    passing: "Passing | None" = None,
) -> HostFacts:
    """Look at a host: this one, or the one whose network namespace is ``namespace``.

    ``links`` are its links where somebody follows them, ``passing`` what was just read; otherwise both are read now.

    ``uplinks`` names interfaces that look like containers' ports (a veth that leads to another namespace) and are the
    host's own. Published ports and endpoints are not found here: a runtime knows them.
    """
    links = links or list_links(namespace)
    own = frozenset(uplinks)
    passing = passing or read_passing(namespace, resolvers)
    state = bridge_state(passing.called, tracking=_tracked_here())
    return HostFacts(
        Host(
            host,
            workload,
            interfaces=tuple(sorted(each.name for each in links.links if is_own(each, own))),
            bridges=tuple(_bridges(links, own, dict(realms), state)),
            resolvers=passing.resolvers,
            failsafe=passing.sessions,
        ),
        Endpoint(Attachment.HOST, tuple(sorted(_own_addresses(links)))),
        links,
    )


class Passing(msgspec.Struct, frozen=True):
    """What of a host changes without a word: whether bridges call, its resolvers, who is connected by SSH."""

    called: tuple[bool, bool]
    resolvers: tuple[Address, ...]
    sessions: tuple[Failsafe, ...]


def read_passing(
    namespace: Namespace | None = None, resolvers: Path = RESOLVERS, sessions: Iterable[Failsafe] | None = None
) -> Passing:
    """Read it in a network namespace, or in that of this thread. ``sessions``: who is connected, where that is known.

    Sessions take milliseconds: the kernel walks its whole table of connections for them. All else takes none.
    """
    called, connected = inside(
        namespace, lambda: (bridge_calls(), frozenset(ssh_sessions() if sessions is None else sessions))
    )
    return Passing(called, tuple(sorted(_resolvers(resolvers))), tuple(sorted(connected)))


# Bridges


def bridge_calls(root: Path = PROC) -> tuple[bool, bool]:
    """Tell whether bridged IPv4 and IPv6 packets are shown to the inet family, in the namespace of this thread."""
    four, six = ((root / "sys/net/bridge" / each) for each in SWITCHES)
    return _reads(four).strip() == "1", _reads(six).strip() == "1"


def bridge_state(called: tuple[bool, bool], *, tracking: bool) -> BridgeState:
    """Return where bridged traffic can be judged. One family here and the other there is nowhere: never both."""
    if all(called):
        return BridgeState.INET
    return BridgeState.BRIDGE if tracking and not any(called) else BridgeState.NONE


def bridges_are_tracked(root: Path = Path("/")) -> bool:
    """Tell whether this kernel can track connections of bridged frames: loaded, loadable or built in."""
    if (root / "sys/module" / BRIDGE_TRACKING).exists():
        return True
    folder = root / "lib/modules" / os.uname().release
    if any(BRIDGE_TRACKING in _reads(folder / each) for each in ("modules.dep", "modules.builtin")):
        return True
    try:
        return BRIDGE_TRACKING_SYMBOL in (root / "proc/kallsyms").read_bytes()
    except OSError:
        return False


@cache
def _tracked_here() -> bool:
    """Asked once: a running kernel stays what it is, and the list of its symbols is some ten megabytes."""
    return bridges_are_tracked()


def _bridges(
    links: LinksListed, uplinks: frozenset[str], realms: dict[str, Realm], state: BridgeState
) -> Iterator[Bridge]:
    for bridge in sorted((each for each in links.links if each.kind == "bridge"), key=lambda each: each.name):
        ports = (each for each in links.links if each.master == bridge.index)
        yield Bridge(
            bridge.name,
            realms.get(bridge.name, Realm("")),
            links.of(bridge.index).subnets,
            tuple(sorted(each.name for each in ports if is_own(each, uplinks))),
            state,
        )


def is_own(link: LinkSeen, uplinks: frozenset[str]) -> bool:
    """Tell whether an interface is the host's own and no workload's port: a veth to elsewhere, a tap on a bridge."""
    a_port = link.leads_elsewhere or link.half_laid or (link.kind == "tun" and link.master != 0)
    return not a_port or link.name in uplinks


def _own_addresses(links: LinksListed) -> set[Address]:
    found = {address for each in links.addresses for address in each.bare}
    return {each for each in found if not ipaddress.ip_address(each).is_loopback}


# Resolvers


def _resolvers(path: Path) -> set[Address]:
    found = set()
    for line in _reads(path).splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            found.add(canonical_address(words[1].partition("%")[0]))
        except ValueError:
            continue
    return found


# SSH sessions


def ssh_sessions(root: Path = PROC) -> Iterator[Failsafe]:
    """Yield who is connected by SSH to this thread's namespace: every established connection to a port where an SSH
    daemon listens, or to port 22 where anything does.
    """
    rows = [row for table in ("tcp", "tcp6") for row in _rows(root / "thread-self/net" / table)]
    connected = [row for row in rows if row.state == ESTABLISHED]
    used = {row.port for row in connected}
    listening = {row.inode: row.port for row in rows if row.state == LISTENING and row.port in used}
    # Whose a socket is takes a look at every process: not where nobody is connected to a port that may be a daemon's.
    daemons = set(_daemon_sockets(root)) if used.intersection(listening.values()) - {SSH} else set()
    ports = {port for inode, port in listening.items() if inode in daemons or port == SSH}
    for row in connected:
        if row.port in ports:
            yield Failsafe(row.peer, Protocol.TCP, row.port)


class _Row(msgspec.Struct, frozen=True):
    port: int
    peer: Address
    state: str
    inode: str


def _rows(table: Path) -> Iterator[_Row]:
    for line in _reads(table).splitlines()[1:]:
        words = line.split()
        yield _Row(int(words[1].partition(":")[2], 16), _address(words[2].partition(":")[0]), words[3], words[9])


def _address(text: str) -> Address:
    """Read an address as /proc/net/tcp writes it: words of 32 bits, each in the machine's order."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    if len(packed) == 4:
        return Address(socket.inet_ntop(socket.AF_INET, packed))
    found = ipaddress.IPv6Address(packed)
    return Address(str(found.ipv4_mapped or found))


def _daemon_sockets(root: Path) -> Iterator[str]:
    """Yield the inodes of all sockets that SSH daemons hold."""
    for process in root.iterdir():
        if not process.name.isdigit() or _reads(process / "comm").strip() not in SSH_DAEMONS:
            continue
        try:
            targets = [str(each.readlink()) for each in (process / "fd").iterdir()]
        except OSError:
            continue
        yield from (each[8:-1] for each in targets if each.startswith("socket:["))


def _reads(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
