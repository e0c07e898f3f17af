"""The older packet filters' tables (``iptables-legacy``), read from the kernel itself: nft does not list them.

Reads only, and only tables that are there already: asking for another would make it. Namespaces are the thread's own.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from stockade.core.posture.host import Act, BaseChain, ForeignTable
from stockade.core.posture.host.targets import target_acts

GET_INFO, GET_ENTRIES = 64, 65
"""IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; IPv6's are the same."""
INFO = struct.Struct("=32sI5I5III")
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
PRIORITIES = {"raw": (-300,) * 5, "mangle": (-150,) * 5, "nat": (-100, 100, 0, -100, 100), "filter": (0,) * 5}
SECURITY = (50,) * 5
ENTRIES_AT = {4: 40, 6: 40}
"""struct ipt_get_entries: a name of 32 bytes, a size, padding to eight."""
OFFSETS_AT = {4: 88, 6: 140}
"""Where an entry says where its target and the next entry begin: after ipt_ip or ip6t_ip6, and four bytes."""
_libc = ctypes.CDLL(None, use_errno=True)


def legacy_tables(proc: Path = Path("/proc")) -> tuple[ForeignTable, ...]:
    """Return the tables of both families, by family and name. ``OSError`` where the kernel refuses."""
    found = [
        _table(family, name)
        for family, file in ((4, "ip_tables_names"), (6, "ip6_tables_names"))
        for name in _names(proc / "thread-self/net" / file)
    ]
    return tuple(sorted(found, key=lambda each: (each.family, each.name)))


def unlisted_tables(proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Return the tables that are there and that nobody can read here: those of arptables and ebtables, legacy.

    Who may not even ask for the names of arptables' is told of them all.
    """
    try:
        arp = [f"arptables-legacy {name}" for name in _names(proc / "thread-self/net/arp_tables_names")]
    except PermissionError:
        arp = ["arptables-legacy's tables"]
    modules = _read(proc / "modules").splitlines()
    bridge = [line.split()[0] for line in modules if line.startswith("ebtable_")]
    return tuple(sorted([*arp, *(f"ebtables-legacy {name.removeprefix('ebtable_')}" for name in bridge)]))


def _names(path: Path) -> list[str]:
    return sorted(_read(path).split())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return ""


def _table(family: int, name: str) -> ForeignTable:
    kind = (socket.AF_INET, socket.IPPROTO_IP) if family == 4 else (socket.AF_INET6, socket.IPPROTO_IPV6)
    with socket.socket(kind[0], socket.SOCK_RAW, socket.IPPROTO_RAW) as asked:
        info = _ask(asked, kind[1], GET_INFO, name.encode().ljust(32, b"\0"), INFO.size)
        _, valid, *_, size = INFO.unpack(info)
        head = name.encode().ljust(32, b"\0") + struct.pack("=II", size, 0)
        entries = _ask(asked, kind[1], GET_ENTRIES, head, ENTRIES_AT[family] + size)[ENTRIES_AT[family] :]
    acts = tuple(sorted(set(_acts(family, name, entries)), key=_order))
    chains = tuple(sorted(_chains(name, valid))) if acts else ()
    return ForeignTable("legacy ip" if family == 4 else "legacy ip6", name, chains, acts)


def _ask(asked: socket.socket, level: int, what: int, head: bytes, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(head, size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(asked.fileno(), level, what, buffer, ctypes.byref(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"a table of iptables-legacy cannot be read: {os.strerror(code)}")
    return buffer.raw[: length.value]


def _chains(name: str, valid: int) -> Iterator[BaseChain]:
    priorities = PRIORITIES.get(name, SECURITY)
    for number, hook in enumerate(HOOKS):
        if valid >> number & 1:
            yield BaseChain(hook.upper(), "nat" if name == "nat" else "filter", hook, priorities[number])


def _acts(family: int, table: str, entries: bytes) -> Iterator[Act]:
    at = 0
    while at + OFFSETS_AT[family] + 4 <= len(entries):
        target, following = struct.unpack_from("=HH", entries, at + OFFSETS_AT[family])
        if not target < following:
            return
        size, raw = struct.unpack_from("=H29s", entries, at + target)
        name = raw.partition(b"\0")[0].decode(errors="replace")
        yield from target_acts(table, name, entries[at + target + 32 : at + target + size])
        at += following


def _order(act: Act) -> tuple[str, str, str, int, int]:
    return act.chain, act.does.value, act.detail, act.packet, act.connection
