"""What else stands around our tables in one network namespace: traffic control, XDP, bridges' switches, routing rules.

Reads only. Each part is a dump of its own; one that a change interrupted is read again.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import msgspec

from stockade.adapters.netlink import wire
from stockade.adapters.netlink.namespace import Namespace, inside
from stockade.core.posture.host import BridgeSeen, LinkPort, LocalRoute, Program, ProgramKind, RoutingRule, TrafficAct

GETROUTE, GETRULE, GETQDISC, GETFILTER = 26, 34, 38, 46
LINKS, TRAFFIC, ROUTES4, RULES4, ROUTES6, RULES6 = 1, 4, 7, 8, 11, 19
"""Multicast groups (RTNLGRP_…) whose messages are a reason to look again."""
SOL_NETLINK, STRICT = 270, 12
"""NETLINK_GET_STRICT_CHK: the kernel then leaves out of a dump what was not asked for."""
IFNAME, MASTER, LINKINFO, XDP = 3, 10, 18, 43
INFO_KIND, INFO_DATA = 1, 2
VLAN_FILTERING, CALL4, CALL6 = 7, 36, 37
XDP_ATTACHED, XDP_PROGRAM = 2, 4
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
CLASSFUL = frozenset({"htb", "hfsc", "prio", "drr", "qfq", "ets", "multiq", "cbq", "dsmark", "atm", "taprio", "mqprio"})
TCA_KIND, TCA_OPTIONS = 1, 2
ACTIONS = {"u32": 7, "matchall": 2, "flower": 3, "bpf": 1, "basic": 3, "fw": 4, "route": 6, "cgroup": 1, "flow": 9}
"""Where each classifier keeps its actions."""
ACT_KIND, ACT_OPTIONS = 1, 2
MIRRED_PARMS, SKBEDIT_MARK = 2, 5
LOCAL_TYPE, LOCAL_TABLE = 2, 255
RTA_DST, RTA_TABLE = 1, 15
FRA_DST, FRA_SRC, FRA_IIF, FRA_PRIORITY, FRA_MARK, FRA_TABLE, FRA_OIF = 1, 2, 3, 6, 10, 15, 17
DEFAULT_RULES = {(4, 0, 255), (4, 32766, 254), (4, 32767, 253), (6, 0, 255), (6, 32766, 254)}
"""(family, priority, table) of the rules that a kernel comes with."""
FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}
ROUND = 20
PATIENCE = 5.0
ROOM = 1 << 20


class LinkWords(msgspec.Struct, frozen=True):
    """What the links themselves say: ports, bridges, and XDP programs; (index, name) of each."""

    names: tuple[tuple[int, str], ...]
    ports: tuple[LinkPort, ...]
    bridges: tuple[BridgeSeen, ...]
    xdp: tuple[Program, ...]


class Moves:
    """A subscription to whatever may change what is read here. It tells that, and not what."""

    def __init__(self, namespace: Namespace | None = None) -> None:
        self._socket = inside(namespace, _open)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self._socket.bind((0, 0))  # one without a number is passed over
        for group in (LINKS, TRAFFIC, ROUTES4, RULES4, ROUTES6, RULES6):
            self._socket.setsockopt(SOL_NETLINK, 1, group)

    def fileno(self) -> int:
        """The descriptor that becomes readable when something has moved."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget what was told; what was lost on the way is a reason to look as well."""
        while True:
            try:
                self._socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                continue

    def close(self) -> None:
        """Unsubscribe."""
        self._socket.close()


class Surroundings:
    """Reads one namespace, the calling thread's own, over one socket, which is closed with it."""

    def __init__(self) -> None:
        self._socket = _open()
        self._socket.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(SOL_NETLINK, STRICT, 1)
        self._sequence = 0

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def links(self) -> LinkWords:
        """Return what links say of themselves."""
        seen = [_Link(body) for body in self._dump(wire.GETLINK, bytes(16)) if body[0] != socket.AF_BRIDGE]
        names = {each.index: each.name for each in seen}
        return LinkWords(
            tuple(sorted(names.items())),
            tuple(sorted(LinkPort(each.name, names.get(each.master, "")) for each in seen)),
            tuple(sorted(bridge for each in seen if (bridge := each.bridge()))),
            tuple(sorted(program for each in seen if (program := each.xdp()))),
        )

    def traffic(self, names: Iterable[tuple[int, str]]) -> tuple[TrafficAct, ...]:
        """Return what filters do at every link where there are any. ``names``: the links, by index."""
        named = dict(names)
        found: set[TrafficAct] = set()
        for body in self._dump(GETQDISC, struct.pack("=BxHiIII", 0, 0, 0, 0, 0, 0)):
            _, _, index, handle, _, _ = struct.unpack_from("=BxHiIII", body)
            kind = _text(_attributes(body, 20).get(TCA_KIND))
            for where, parent in _parents(kind, handle):
                found.update(self._filters(index, parent, where, named))
        return tuple(sorted(found))

    def rules(self) -> tuple[RoutingRule, ...]:
        """Return the routing rules that a kernel does not come with."""
        bodies = (body for family in FAMILIES for body in self._dump(GETRULE, struct.pack("=B11x", family)))
        return tuple(sorted(rule for body in bodies if (rule := _rule(body)) is not None))

    def local_routes(self) -> tuple[LocalRoute, ...]:
        """Return what this host takes for its own beyond its links' addresses and 127.0.0.0/8."""
        own = {wire.address(body) for body in self._dump(wire.GETADDR, bytes(8))}
        addresses = {each[1].partition("/")[0] for each in own if each}
        asked = (struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, LOCAL_TYPE, 0) for family in FAMILIES)
        routes = (_local(body) for request in asked for body in self._dump(GETROUTE, request))
        return tuple(sorted(route for route in routes if route is not None and not _usual(route, addresses)))

    def _filters(self, index: int, parent: int, where: str, named: dict[int, str]) -> Iterator[TrafficAct]:
        request = struct.pack("=BxHiIII", 0, 0, index, 0, parent, 0)
        for body in self._dump(GETFILTER, request):
            told = _attributes(body, 20)
            kind = _text(told.get(TCA_KIND))
            options = _attributes(told.get(TCA_OPTIONS, b""), 0)
            link = named.get(index, f"link {index}")
            if kind == "bpf":
                yield TrafficAct(link, where, kind, "bpf")
            for act in _attributes(options.get(ACTIONS.get(kind, -1), b""), 0).values():
                yield from _act(TrafficAct(link, where, kind, ""), act, named)

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        for _ in range(ROUND):
            self._sequence += 1
            head = struct.pack("=IHHII", 16 + len(body), kind, wire.REQUEST | wire.DUMP, self._sequence, 0)
            self._socket.send(head + body)
            found = self._answers()
            if found is not None:
                return found
        raise TimeoutError("links and routes change faster than they can be read")

    def _answers(self) -> list[bytes] | None:
        found: list[bytes] = []
        broken = False
        while True:
            for message in wire.messages(self._socket.recv(1 << 18)):
                if message.sequence != self._sequence:
                    continue
                broken |= bool(message.flags & wire.INTERRUPTED)
                if message.type == wire.ERROR and (code := wire.error(message.body)):
                    raise OSError(code, os.strerror(code))
                if message.type in (wire.DONE, wire.ERROR):
                    return None if broken else found
                found.append(message.body)


def switches(ports: Collection[str] = (), root: Path = Path("/proc/sys")) -> tuple[tuple[str, int], ...]:
    """Return settings that our judgement rests on, by path under /proc/sys; those that are not there are left out.

    ``ports`` are ports of bridges: what the host takes in by one it takes in by the bridge, whose setting counts.
    """
    paths = [f"net/bridge/{name}" for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")]
    with contextlib.suppress(OSError):
        links = sorted(set(os.listdir(root / "net/ipv4/conf")).difference(ports))  # noqa: PTH208 - quicker
        paths += [f"net/ipv4/conf/{name}/route_localnet" for name in links]
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            found.append((path, _read_number(f"{root}/{path}")))
    return tuple(found)


def _read_number(path: str) -> int:
    """There is one for each link, and they are read every few seconds: nothing is done for each but what must be."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(file, 32))
    finally:
        os.close(file)


def tracked(root: Path = Path("/proc/sys")) -> tuple[int, int]:
    """Return (entries, limit) of this namespace's connection tracking. ``OSError`` where it has none."""
    folder = root / "net/netfilter"
    entries, limit = (
        (folder / name).read_text(encoding="ascii") for name in ("nf_conntrack_count", "nf_conntrack_max")
    )
    return int(entries), int(limit)


class _Link:
    def __init__(self, body: bytes) -> None:
        (self.index,) = struct.unpack_from("=i", body, 4)
        self._told = _attributes(body, 16)
        self.name = _text(self._told.get(IFNAME))
        self.master = _number(self._told.get(MASTER))

    def bridge(self) -> BridgeSeen | None:
        info = _attributes(self._told.get(LINKINFO, b""), 0)
        if _text(info.get(INFO_KIND)) != "bridge":
            return None
        data = _attributes(info.get(INFO_DATA, b""), 0)
        vlan, four, six = (bool(_number(data.get(each))) for each in (VLAN_FILTERING, CALL4, CALL6))
        return BridgeSeen(self.name, vlan, four, six)

    def xdp(self) -> Program | None:
        told = _attributes(self._told.get(XDP, b""), 0)
        if not _number(told.get(XDP_ATTACHED)):
            return None
        return Program(ProgramKind.XDP, _number(told.get(XDP_PROGRAM)), link=self.name)


def _parents(kind: str, handle: int) -> Iterator[tuple[str, int]]:
    if kind == "clsact":
        yield from (("ingress", INGRESS), ("egress", EGRESS))
    elif kind == "ingress":
        yield "ingress", handle
    elif kind in CLASSFUL:
        yield f"parent {handle >> 16:x}:", handle


def _act(place: TrafficAct, act: bytes, named: dict[int, str]) -> Iterator[TrafficAct]:
    """Yield an action. One that edits no mark changes a packet's priority and queue, which is nobody's address."""
    told = _attributes(act, 0)
    kind, options = _text(told.get(ACT_KIND)), _attributes(told.get(ACT_OPTIONS, b""), 0)
    target = ""
    if kind == "skbedit" and SKBEDIT_MARK not in options:
        return
    if kind == "mirred" and len(parms := options.get(MIRRED_PARMS, b"")) >= 28:
        (index,) = struct.unpack_from("=I", parms, 24)
        target = named.get(index, f"link {index}")
    yield msgspec.structs.replace(place, act=kind, target=target)


def _rule(body: bytes) -> RoutingRule | None:
    family, to_length, from_length, _, table = struct.unpack_from("=BBBBB", body)
    told = _attributes(body, 12)
    table, priority = _number(told.get(FRA_TABLE)) or table, _number(told.get(FRA_PRIORITY))
    selective = any(each in told for each in (FRA_DST, FRA_SRC, FRA_IIF, FRA_OIF, FRA_MARK))
    if family not in FAMILIES or (not selective and (FAMILIES[family], priority, table) in DEFAULT_RULES):
        return None
    words = [
        f"from {_prefix(family, told.get(FRA_SRC), from_length) or 'all'}",
        f"to {_prefix(family, told.get(FRA_DST), to_length)}" if FRA_DST in told else "",
        f"iif {_text(told.get(FRA_IIF))}" if FRA_IIF in told else "",
        f"oif {_text(told.get(FRA_OIF))}" if FRA_OIF in told else "",
        f"fwmark {_number(told.get(FRA_MARK)):#x}" if FRA_MARK in told else "",
        f"table {table}",
    ]
    return RoutingRule(FAMILIES[family], priority, " ".join(filter(None, words)))


def _local(body: bytes) -> LocalRoute | None:
    family, length, _, _, table, _, _, kind, _ = struct.unpack_from("=BBBBBBBBI", body)
    told = _attributes(body, 12)
    if family not in FAMILIES or kind != LOCAL_TYPE:
        return None
    prefix = _prefix(family, told.get(RTA_DST), length) or ("0.0.0.0/0" if family == socket.AF_INET else "::/0")
    return LocalRoute(prefix, _number(told.get(RTA_TABLE)) or table)


def _usual(route: LocalRoute, addresses: set[str]) -> bool:
    address, _, length = route.prefix.partition("/")
    if route.table != LOCAL_TABLE:
        return False
    return (address in addresses and length in ("32", "128")) or route.prefix in (
        "127.0.0.0/8",
        "127.0.0.1/32",
        "::1/128",
    )


def _prefix(family: int, value: bytes | None, length: int) -> str:
    return f"{socket.inet_ntop(family, value)}/{length}" if value else ""


def _attributes(data: bytes, at: int) -> dict[int, bytes]:
    return dict(wire.attributes(data, at))


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "little" if struct.pack("=H", 1)[0] else "big")


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
