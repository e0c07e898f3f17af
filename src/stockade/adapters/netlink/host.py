"""This host as its kernel shows it: itself, its bridges, its ways out, and the ports that endpoints may have.

What leads outside is an interface that is no endpoint's: physical ones, tunnels, and whatever has an address of its
own. A veth or tap without one is somebody's port, unless the user names it as an uplink.
"""

import asyncio
import ipaddress
import platform
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

from stockade.adapters.netlink.links import InterfaceAddress, Link, addresses, links, open_socket
from stockade.core.model.ids import Address, HostId, Prefix, Realm, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Bridge,
    BridgeState,
    Endpoint,
    Facts,
    Failsafe,
    Host,
    Sighting,
    WorkloadKind,
)
from stockade.core.model.net import Protocol

GROUPS = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""
SETTLE = 0.005
"""Seconds to wait after a change for the ones that come with it."""
LOOK_ANYWAY = 5.0
"""Seconds between looks when nothing was told: sessions come and go without a word."""
PORT_KINDS = frozenset({"veth", "tun", "netkit"})
SSH = 22
GLOBAL, HOST_SCOPE = 0, 254
ESTABLISHED = "01"
SYSCTL = Path("/proc/sys/net/bridge")
MODULE = Path("/sys/module/nf_conntrack_bridge")


class HostWatch:
    """Looks at this network namespace again and again. ``lost`` counts messages that the kernel had to drop."""

    def __init__(self, host: HostId, *, uplinks: Iterable[str] = ()) -> None:
        self._host = host
        self._uplinks = frozenset(uplinks)
        self.lost = 0

    async def looks(
        self, bridges: Callable[[], tuple[Bridge, ...]], moved: asyncio.Event
    ) -> AsyncIterator[tuple[Host, Sighting]]:
        """Yield host and itself whenever they are not what they were; the first time at once.

        ``bridges`` is what container engines know of theirs; ``moved`` is set when that has changed.
        """
        loop = asyncio.get_running_loop()
        last = None
        with open_socket(groups=GROUPS) as told:
            told.setblocking(False)
            loop.add_reader(told, self._hear, told, moved)
            try:
                while True:
                    moved.clear()
                    look = await asyncio.to_thread(describe, self._host, bridges(), self._uplinks)
                    if look != last:
                        last = look
                        yield look
                    await _changed(moved)
            finally:
                loop.remove_reader(told)

    def _hear(self, told: "object", moved: asyncio.Event) -> None:
        """Whatever was said, it is a reason to look."""
        try:
            while told.recv(1 << 16):  # type: ignore[attr-defined]  # a socket
                pass
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: some of it is lost, and the look makes up for it
            self.lost += 1
        moved.set()


async def _changed(moved: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(moved.wait(), LOOK_ANYWAY)
    except TimeoutError:
        return
    await asyncio.sleep(SETTLE)


def describe(
    host: HostId, known: Iterable[Bridge] = (), uplinks: frozenset[str] = frozenset()
) -> tuple[Host, Sighting]:
    """Look once: the host and itself as a workload."""
    with open_socket() as here:
        found = {link.index: link for link in links(here)}
        held = addresses(here)
    owned: dict[int, list[InterfaceAddress]] = {}
    for each in held:
        owned.setdefault(each.index, []).append(each)
    engines = {bridge.name: bridge for bridge in known}
    mine = [link for link in found.values() if not _is_port(link, owned, uplinks)]
    bridges = tuple(
        _bridge(host, link, found.values(), owned.get(link.index, []), engines.get(link.name), uplinks)
        for link in found.values()
        if link.kind == "bridge"
    )
    strangers = (link for link in found.values() if _is_port(link, owned, uplinks))
    described = Host(
        id=host,
        workload=WorkloadId(f"host:{host}"),
        interfaces=tuple(sorted(link.name for link in mine if not link.master)),
        bridges=tuple(sorted(bridges, key=lambda bridge: bridge.name)),
        resolvers=resolvers(Path("/etc/resolv.conf")),
        failsafe=sessions(Path("/proc/self/net")),
        unknown=tuple(sorted((_stranger(link, found) for link in strangers), key=lambda each: each.port)),
    )
    return described, _itself(host, mine, owned)


def resolvers(path: Path) -> tuple[Address, ...]:
    """Return the name servers that a resolv.conf names (``resolv.conf(5)``)."""
    found = set()
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.add(Address(str(ipaddress.ip_address(words[1].partition("%")[0]))))
            except ValueError:
                continue
    return tuple(sorted(found))


def sessions(net: Path) -> tuple[Failsafe, ...]:
    """Return the live SSH sessions to this host, by where they come from (``proc(5)``, /proc/net/tcp)."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (net / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, remote, state = line.split()[:4]
            if state == ESTABLISHED and int(local.partition(":")[2], 16) == SSH:
                found.add(Failsafe(_unpacked(remote.partition(":")[0]), Protocol.TCP, SSH))
    return tuple(sorted(found))


def _unpacked(text: str) -> Address:
    """The kernel prints 32-bit words in its own byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    parsed = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return Address(str(mapped or parsed))


def _is_port(link: Link, owned: Mapping[int, list[InterfaceAddress]], uplinks: frozenset[str]) -> bool:
    if link.kind not in PORT_KINDS or link.name in uplinks:
        return False
    return bool(link.master) or not any(each.scope == GLOBAL for each in owned.get(link.index, ()))


def _stranger(link: Link, found: Mapping[int, Link]) -> Endpoint:
    bridge = found.get(link.master)
    attachment = Attachment.BRIDGED if bridge is not None else Attachment.ROUTED
    return Endpoint(attachment, (), link.name, bridge.name if bridge else "")


def _bridge(
    host: HostId,
    link: Link,
    every: Iterable[Link],
    held: Iterable[InterfaceAddress],
    known: Bridge | None,
    uplinks: frozenset[str],
) -> Bridge:
    subnets = {ipaddress.ip_network(f"{each.address}/{each.length}", strict=False) for each in held if _global(each)}
    handed = known.subnets if known else ()
    ports = [each for each in every if each.master == link.index]
    return Bridge(
        name=link.name,
        realm=known.realm if known else Realm(f"{host}/{link.name}"),
        subnets=tuple(sorted({*handed, *(Prefix(str(each)) for each in subnets)})),
        uplinks=tuple(sorted(p.name for p in ports if p.kind not in PORT_KINDS or p.name in uplinks)),
        state=bridge_state(link.name),
    )


def bridge_state(bridge: str, sysctl: Path = SYSCTL, module: Path = MODULE) -> BridgeState:
    """Tell where traffic that stays on a bridge can be judged with state (``BridgeState``)."""
    calls = [_switched(sysctl / name) for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")]
    own = Path("/sys/class/net", bridge, "bridge")
    here = [_switched(own / name) for name in ("nf_call_iptables", "nf_call_ip6tables")]
    if all(calls) or all(here):
        return BridgeState.INET
    return BridgeState.BRIDGE if module.exists() and not any((*calls, *here)) else BridgeState.NONE


def _switched(path: Path) -> bool:
    try:
        return path.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def _global(each: InterfaceAddress) -> bool:
    return each.scope == GLOBAL


def _itself(host: HostId, mine: Iterable[Link], owned: Mapping[int, list[InterfaceAddress]]) -> Sighting:
    """A bridge's address and a loopback one mean this host here and nowhere else; the others mean it everywhere."""
    realms: dict[Realm, set[Address]] = {}
    for link in mine:
        for each in owned.get(link.index, ()):
            local = link.kind == "bridge" or each.scope != GLOBAL
            realm = Realm(f"{host}/{link.name}") if local else Realm("")
            realms.setdefault(realm, set()).add(Address(each.address))
    endpoints = tuple(Endpoint(Attachment.HOST, tuple(sorted(realms[realm])), realm=realm) for realm in sorted(realms))
    facts = Facts(runtime="host", host_name=platform.node(), labels=_system())
    return Sighting(WorkloadId(f"host:{host}"), host, WorkloadKind.HOST, host, endpoints=endpoints, facts=facts)


def _system() -> tuple[tuple[str, str], ...]:
    """What os-release says (``os-release(5)``), for label rules."""
    try:
        told = platform.freedesktop_os_release()
    except OSError:
        told = {}
    pairs = {"os.id": told.get("ID", ""), "os.version": told.get("VERSION_ID", ""), "os.kernel": platform.release()}
    return tuple(sorted((key, value) for key, value in pairs.items() if value))
