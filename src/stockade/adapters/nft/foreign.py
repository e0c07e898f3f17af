"""Tables of others, by raw netlink: their chains at hooks, and what their rules do that could matter to ours.

Never writes, and never reads our own tables, which may be large. A rule is decoded once: its handle says that it is
still the same one.
"""

import socket
import struct
from collections.abc import Iterator

from stockade.adapters.nft.netlink import (
    ATTEMPTS,
    DONE,
    DUMP,
    ERROR,
    INTERRUPTED,
    NETLINK_NETFILTER,
    PATIENCE,
    REQUEST,
    SUBSYSTEM,
    attribute,
    attributes,
    messages,
)
from stockade.core.compile.nft.ruleset import TABLE
from stockade.core.posture.host import Act, BaseChain, Does, ForeignTable
from stockade.core.posture.host.targets import EVERY_BIT, target_acts
from stockade.within import NetlinkSockets

GETTABLE, GETCHAIN, GETRULE = 1, 4, 7
TABLE_NAME, TABLE_FLAGS, TABLE_HANDLE = 1, 2, 4
DORMANT = 0x1
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_TYPE = 1, 3, 4, 7
HOOK_NUMBER, HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS = 1, 2, 3, 4
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
ARP_HOOKS, DEVICE_HOOKS = ("input", "output", "forward"), ("ingress", "egress")

LINK, NETWORK, TRANSPORT = 0, 1, 2
"""Headers that a payload expression may write to (nf_tables.h)."""
MARK = 3
"""NFT_META_MARK and NFT_CT_MARK, both."""
SIMPLE = {
    "redir": Does.TRANSLATES,
    "notrack": Does.UNTRACKS,
    "fwd": Does.FORWARDS,
    "dup": Does.COPIES,
    "flow_offload": Does.OFFLOADS,
    "queue": Does.ASKS,
}

Key = tuple[int, int, bytes]


class ForeignTables:
    """Reads the tables of others again and again. One for each network namespace; not safe from several threads."""

    def __init__(self, netns: str | None = None) -> None:
        self._links = NetlinkSockets(NETLINK_NETFILTER, netns)
        self._known: dict[Key, tuple[Act, ...]] = {}

    def read(self) -> tuple[ForeignTable, ...]:
        """Return every table but ours, and those that are dormant, by family and name. ``OSError`` where refused."""
        with self._links.lent(PATIENCE) as link:
            for attempt in range(1, ATTEMPTS + 1):
                found = self._attempt(_Dumps(link, attempt * 100_000))
                if found is not None:
                    return found
        raise TimeoutError("rulesets change faster than they can be read")

    def _attempt(self, dumps: "_Dumps") -> tuple[ForeignTable, ...] | None:
        tables = sorted(_tables(dumps))
        chains = dumps.all(GETCHAIN, 0)
        still: dict[Key, tuple[Act, ...]] = {}
        found = []
        for family, name, handle in tables:
            bases = tuple(sorted(_bases(chains, family, name)))
            acts = self._acts(dumps, family, name, handle, still) if bases else ()
            found.append(ForeignTable(FAMILIES[family], name, bases, acts))
        if dumps.interrupted:
            return None
        self._known = still
        return tuple(sorted(found, key=lambda each: (each.family, each.name)))

    def _acts(
        self, dumps: "_Dumps", family: int, table: str, handle: int, still: dict[Key, tuple[Act, ...]]
    ) -> tuple[Act, ...]:
        found: set[Act] = set()
        for body in dumps.all(GETRULE, family, attribute(RULE_TABLE, table.encode() + b"\0")):
            told = attributes(body)
            if not _is(told.get(RULE_TABLE), table):
                continue
            key = (family, handle, told.get(RULE_HANDLE, b""))
            acts = self._known.get(key)
            if acts is None:
                acts = tuple(_rule_acts(family, _text(told.get(RULE_CHAIN)), told.get(RULE_EXPRESSIONS, b"")))
            still[key] = acts
            found.update(acts)
        return tuple(sorted(found, key=_order))


def _order(act: Act) -> tuple[str, str, str, int, int]:
    return act.chain, act.does.value, act.detail, act.packet, act.connection


class _Dumps:
    def __init__(self, link: socket.socket, sequence: int) -> None:
        self._link, self._sequence = link, sequence
        self.interrupted = False

    def all(self, kind: int, family: int, body: bytes = b"") -> list[bytes]:
        """Return what follows netfilter's header in each message of a dump, with the family in front for chains."""
        self._sequence += 1
        head = struct.pack("=IHHII", 20 + len(body), SUBSYSTEM << 8 | kind, REQUEST | DUMP, self._sequence, 0)
        self._link.sendto(head + struct.pack(">BBH", family, 0, 0) + body, (0, 0))
        found: list[bytes] = []
        while True:
            for said, flags, _, content in messages(self._link.recv(1 << 18)):
                if struct.unpack_from("=I", content, 8)[0] != self._sequence:
                    continue
                self.interrupted |= bool(flags & INTERRUPTED)
                if said in (DONE, ERROR):
                    number = -struct.unpack_from("=i", content, 16)[0]
                    if number > 0:
                        raise OSError(number, f"the kernel does not list tables ({number})")
                    return found
                found.append(content[20:] if kind == GETRULE else content[16:17] + content[20:])


def _tables(dumps: _Dumps) -> Iterator[tuple[int, str, int]]:
    for body in dumps.all(GETTABLE, 0):
        told = attributes(body[1:])
        flags = int.from_bytes(told.get(TABLE_FLAGS, b""), "big")
        name = _text(told.get(TABLE_NAME))
        if body[0] in FAMILIES and name != TABLE and not flags & DORMANT:
            yield body[0], name, int.from_bytes(told.get(TABLE_HANDLE, b""), "big")


def _bases(chains: list[bytes], family: int, table: str) -> Iterator[BaseChain]:
    for body in chains:
        told = attributes(body[1:])
        if body[0] != family or CHAIN_HOOK not in told or not _is(told.get(CHAIN_TABLE), table):
            continue
        hook = attributes(told[CHAIN_HOOK])
        number = int.from_bytes(hook.get(HOOK_NUMBER, b""), "big")
        priority = int.from_bytes(hook.get(HOOK_PRIORITY, b""), "big", signed=True)
        yield BaseChain(_text(told.get(CHAIN_NAME)), _text(told.get(CHAIN_TYPE)), _hook(family, number), priority)


def _hook(family: int, number: int) -> str:
    names = {"netdev": DEVICE_HOOKS, "arp": ARP_HOOKS}.get(FAMILIES[family], HOOKS)
    return names[number] if number < len(names) else f"hook {number}"


# Rules


def _rule_acts(family: int, chain: str, expressions: bytes) -> Iterator[Act]:
    """Yield what one rule does. Registers are followed, so that it is known which bits of a mark may change."""
    registers: dict[int, tuple[str, int]] = {}
    for element in _each(expressions):
        told = attributes(element)
        name, data = _text(told.get(1)), attributes(told.get(2, b""))
        if name in SIMPLE:
            yield Act(chain, SIMPLE[name], name)
        elif name == "nat" and _number(data.get(1)) == 1:
            yield Act(chain, Does.TRANSLATES, "dnat")
        elif name == "payload":
            yield from _payload(family, chain, data)
        elif name == "target":
            yield from target_acts(chain, _text(data.get(1)), data.get(3, b""))
        elif name in ("meta", "ct"):
            yield from _key(chain, name, data, registers)
        elif name == "bitwise":
            _bitwise(data, registers)


def _each(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, at)
        yield data[at + 4 : at + length]
        at += max(4, length + 3 & ~3)


def _payload(family: int, chain: str, data: dict[int, bytes]) -> Iterator[Act]:
    """A payload expression with a source register writes. Lifetimes, classes and checksums are nobody's address."""
    if 5 not in data:
        return
    base, offset, length = (_number(data.get(each)) for each in (2, 3, 4))
    if base == LINK:
        yield Act(chain, Does.REWRITES, "link addresses")
    elif base == NETWORK and _of_addresses(family, offset, length):
        yield Act(chain, Does.REWRITES, "addresses")
    elif base == TRANSPORT and offset < 4:
        yield Act(chain, Does.REWRITES, "ports")


def _of_addresses(family: int, offset: int, length: int) -> bool:
    """IPv4 has them at 12 to 20, IPv6 at 8 to 40; where it may be either, a short write at 8 is IPv4's lifetime."""
    first, last = (12, 20) if FAMILIES[family] == "ip" else (8, 40)
    if FAMILIES[family] not in ("ip", "ip6") and offset < 12 and length <= 2:
        return False
    return offset < last and offset + length > first


def _key(chain: str, name: str, data: dict[int, bytes], registers: dict[int, tuple[str, int]]) -> Iterator[Act]:
    """A mark that is read goes into a register; one that is written comes from one, or from something unknown."""
    if _number(data.get(2)) != MARK:
        return
    if 1 in data:
        registers[_number(data[1])] = (name, 0)
    source = data.get(3 if name == "meta" else 4)
    if source is not None:
        read, bits = registers.get(_number(source), ("", EVERY_BIT))
        bits = bits if read == name else EVERY_BIT
        if name == "meta":
            yield Act(chain, Does.MARKS, "meta mark", packet=bits)
        else:
            yield Act(chain, Does.MARKS, "ct mark", connection=bits)


def _bitwise(data: dict[int, bytes], registers: dict[int, tuple[str, int]]) -> None:
    """``(register & mask) ^ xor``: what the mask leaves and xor does not flip stays as it was."""
    source, target = _number(data.get(1)), _number(data.get(2))
    if source in registers and _number(data.get(6)) == 0:
        read, bits = registers[source]
        mask, flip = (_host(attributes(data.get(each, b"")).get(1, b"")) for each in (4, 5))
        registers[target] = (read, bits | (~mask & EVERY_BIT) | flip)
    else:
        registers.pop(target, None)


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _host(value: bytes) -> int:
    """Marks are in the machine's own order within a register."""
    return int.from_bytes(value[:4], "little" if struct.pack("=H", 1)[0] else "big")


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def _is(value: bytes | None, name: str) -> bool:
    return _text(value) == name
