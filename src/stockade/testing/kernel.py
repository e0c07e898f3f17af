"""An honest kernel in memory: it reads the same nft text as the real one and refuses what the real one refuses.

It keeps our two tables, named counters and tracked connections. It knows what refers to what: a rule that looks at a
missing set, the deletion of a chain that something leads to, an element that leads elsewhere already, overlapping
intervals, loops: each refuses the whole transaction. It never sees a packet. Faults are asked for: a helper that dies
before or after a transaction, another process that writes or flushes.
"""

import errno
import ipaddress
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from itertools import pairwise

import msgspec

from stockade.core.compile.nft.ruleset import TABLE, Chain, ElementSet, Ruleset, Table
from stockade.core.model.ids import Address
from stockade.core.reconcile.references import chains_of, counters_of, key_of, sets_of, target
from stockade.seams.kernel import Connection, Fill, KernelRefused

DEEPEST = 16
"""How many chains deep the kernel follows jumps."""
FAMILIES = ("inet", "bridge")


class FakeKernel:
    """Implements ``seams.kernel.Kernel``. ``strict``: adding what is there already is refused too.

    ``batches`` are the transactions taken so far; ``limit`` is how many connections have room. ``owned``: our tables
    have a living owner, so that others get EPERM.
    """

    def __init__(self, *, owned: bool = True, strict: bool = False) -> None:
        self.owned = owned
        self.strict = strict
        self.batches: list[str] = []
        self.gone = False
        self.limit = 65536
        self.untracked = 0
        self._tables: dict[str, _Table] = {}
        self._tracked: dict[int, Connection] = {}
        self._next_id = 1
        self._written = 0
        self._fuse: tuple[int, bool] | None = None

    # what the seam asks for

    def observe(self) -> Ruleset:
        """Return our tables as they are now."""
        self._alive()
        return Ruleset(tuple(self._tables[family].value() for family in FAMILIES if family in self._tables))

    def commit(self, batch: str) -> None:
        """Carry out one transaction, all or nothing."""
        self._alive()
        dies = self._dies()
        if dies is False:
            self._die()
        self._apply(batch)
        self.batches.append(batch)
        if dies:
            self._die()

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return (packets, bytes) by counter name."""
        self._alive()
        packets: Counter[str] = Counter()
        octets: Counter[str] = Counter()
        for table in self._tables.values():
            for name, (some, more) in table.counters.items():
                packets[name] += some
                octets[name] += more
        return {name: (packets[name], octets[name]) for name in packets}

    def counter(self, name: str) -> int | None:
        """Return the packets that one counter counted; None where there is none."""
        found = self.counters().get(name)
        return None if found is None else found[0]

    def generation(self) -> int:
        """Return how many transactions there were, anybody's."""
        self._alive()
        return self._written

    def connections(self, mark: int = 0, mask: int = 0) -> Iterable[Connection]:
        """Walk the tracked connections whose ``mark & mask == mark``."""
        self._alive()
        return [each for each in list(self._tracked.values()) if each.mark & mask == mark]

    def midway(self) -> Iterable[Connection]:
        """Walk the tracked connections that the kernel did not see begin."""
        self._alive()
        return [each for each in list(self._tracked.values()) if each.midway]

    def mark(self, connection: Connection, mark: int) -> bool:
        """Set a connection's mark."""
        self._alive()
        found = self._same(connection)
        if found is None:
            return False
        self._tracked[found.id] = msgspec.structs.replace(found, mark=mark)
        return True

    def end(self, connection: Connection) -> bool:
        """Delete one connection's entry."""
        self._alive()
        found = self._same(connection)
        return found is not None and self._tracked.pop(found.id, None) is not None

    def forget(self, addresses: Iterable[Address]) -> int:
        """Delete every entry that has one of these addresses at either end."""
        self._alive()
        wanted = set(addresses)
        going = [each.id for each in self._tracked.values() if wanted & _addresses(each)]
        for number in going:
            del self._tracked[number]
        return len(going)

    def fill(self) -> Fill:
        """Return how full the table of tracked connections is."""
        self._alive()
        return Fill(len(self._tracked), self.limit, self.untracked)

    # what happens to a kernel

    def track(self, connection: Connection) -> Connection:
        """A connection begins; return it with the number that the kernel gave it, or without where it has no room."""
        if len(self._tracked) >= self.limit:
            self.untracked += 1
            return connection
        entry = msgspec.structs.replace(connection, id=self._next_id)
        self._next_id += 1
        self._tracked[entry.id] = entry
        return entry

    def count(self, family: str, name: str, packets: int, octets: int = 0) -> None:
        """Packets moved a named counter."""
        before = self._tables[family].counters[name]
        self._tables[family].counters[name] = (before[0] + packets, before[1] + octets)

    def die_before(self, commits: int = 1) -> None:
        """The helper dies as the n-th transaction from now arrives: nothing of it is in force."""
        self._fuse = (commits, False)

    def die_after(self, commits: int = 1) -> None:
        """The helper dies when the n-th transaction from now is in force, before it has said so."""
        self._fuse = (commits, True)

    def kill_helper(self) -> None:
        """The helper is gone: our tables stay, without an owner, and every call raises until ``revive``."""
        self.gone = True

    def revive(self, *, owned: bool = True) -> None:
        """A new helper adopts what is there."""
        self.gone = False
        self.owned = owned
        self._fuse = None

    def tamper(self, batch: str) -> None:
        """Another process commits a transaction to our tables: EPERM where they are owned."""
        self._others_may_write()
        self._apply(batch)

    def flush_ruleset(self) -> None:
        """Another process flushes the ruleset: owned tables are passed by."""
        if not self.owned or self.gone:
            self._tables.clear()
        self._written += 1

    # within

    def _apply(self, batch: str) -> None:
        before = deepcopy(self._tables)
        try:
            for line, command in _commands(batch):
                self._run(line, command)
            for table in self._tables.values():
                table.validate()
        except KernelRefused:
            self._tables = before
            raise
        self._written += 1

    def _run(self, line: int, command: str) -> None:
        found = _COMMAND.fullmatch(command)
        if found is None:
            raise _refused(line, "syntax error", command)
        verb, kind, family, name, rest = found["verb"], found["kind"], found["family"], found["name"], found["rest"]
        try:
            if kind == "table":
                self._run_table(verb, family)
                return
            if family not in self._tables:
                raise _RefusedError("No such file or directory")
            table = self._tables[family]
            table.strict = self.strict
            table.actions[verb, "set" if kind == "map" else kind](name, rest or "")
        except KeyError as missing:
            raise _refused(line, f"syntax error: {missing}", command) from missing
        except _RefusedError as why:
            raise _refused(line, str(why), command) from why

    def _run_table(self, verb: str, family: str) -> None:
        if verb == "add":
            _new(self.strict and family in self._tables)
            self._tables.setdefault(family, _Table(family))
        elif verb == "delete":
            _present(family in self._tables)
            del self._tables[family]
        else:
            raise _RefusedError("a table is never flushed")

    def _alive(self) -> None:
        if self.gone:
            raise ConnectionError(errno.ECONNREFUSED, "the helper does not answer")

    def _dies(self) -> bool | None:
        """Tell whether the helper dies now: before (False), after (True), not (None)."""
        if self._fuse is None:
            return None
        left, after = self._fuse
        self._fuse = (left - 1, after) if left > 1 else None
        return after if left <= 1 else None

    def _die(self) -> None:
        self.kill_helper()
        self._alive()

    def _others_may_write(self) -> None:
        if self.owned and not self.gone:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def _same(self, connection: Connection) -> Connection | None:
        if connection.id:
            return self._tracked.get(connection.id)
        return next((each for each in self._tracked.values() if _tuple(each) == _tuple(connection)), None)


class _RefusedError(Exception):
    """Why one command is refused, in the kernel's words."""


class _Table:
    """One table and its bookkeeping of who refers to whom."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.strict = False
        self.sets: dict[str, ElementSet] = {}
        self.elements: dict[str, dict[str, str]] = {}
        self.counters: dict[str, tuple[int, int]] = {}
        self.chains: dict[str, tuple[str, list[str]]] = {}
        self.held: dict[str, Counter[str]] = {"chain": Counter(), "set": Counter(), "counter": Counter()}

    @property
    def actions(self) -> "dict[tuple[str, str], Callable[[str, str], None]]":
        return {
            ("add", "counter"): self.add_counter,
            ("delete", "counter"): self.delete_counter,
            ("add", "set"): self.add_set,
            ("flush", "set"): self.flush_set,
            ("delete", "set"): self.delete_set,
            ("add", "element"): self.add_elements,
            ("delete", "element"): self.delete_elements,
            ("add", "chain"): self.add_chain,
            ("flush", "chain"): self.flush_chain,
            ("delete", "chain"): self.delete_chain,
            ("add", "rule"): self.add_rule,
        }

    def value(self) -> Table:
        return Table(
            self.family,
            sets={
                name: msgspec.structs.replace(declared, elements=frozenset(self.elements[name].values()))
                for name, declared in sorted(self.sets.items())
            },
            counters=frozenset(self.counters),
            chains={name: Chain(hook, tuple(rules)) for name, (hook, rules) in sorted(self.chains.items())},
        )

    def add_counter(self, name: str, _rest: str) -> None:
        _new(self.strict and name in self.counters)
        self.counters.setdefault(name, (0, 0))

    def delete_counter(self, name: str, _rest: str) -> None:
        _present(name in self.counters)
        _free(self.held["counter"][name])
        del self.counters[name]

    def add_set(self, name: str, rest: str) -> None:
        declared = _declared(rest)
        _new(name in self.sets and (self.strict or self.sets[name] != declared))
        self.sets.setdefault(name, declared)
        self.elements.setdefault(name, {})

    def flush_set(self, name: str, _rest: str) -> None:
        _present(name in self.sets)
        for element in self.elements[name].values():
            self._hold_target(element, -1)
        self.elements[name] = {}

    def delete_set(self, name: str, _rest: str) -> None:
        _present(name in self.sets)
        _free(self.held["set"][name])
        self.flush_set(name, "")
        del self.sets[name], self.elements[name]

    def add_elements(self, name: str, rest: str) -> None:
        _present(name in self.sets)
        there = self.elements[name]
        for element in _listed(rest):
            key = key_of(element)
            if bool(self.sets[name].data) != (" : " in element) or not _fits(self.sets[name].key, key):
                raise _RefusedError("Invalid argument")
            _new(key in there and (self.strict or there[key] != element))
            if key not in there:
                self._hold_target(element, 1)
                there[key] = element
        if "interval" in self.sets[name].flags:
            _apart(there)

    def delete_elements(self, name: str, rest: str) -> None:
        _present(name in self.sets)
        for key in map(key_of, _listed(rest)):
            _present(key in self.elements[name])
            self._hold_target(self.elements[name].pop(key), -1)

    def add_chain(self, name: str, rest: str) -> None:
        hook = " ".join(rest.strip("{}").split())
        _new(name in self.chains and (self.strict or (bool(hook) and self.chains[name][0] != hook)))
        self.chains.setdefault(name, (hook, []))

    def flush_chain(self, name: str, _rest: str) -> None:
        _present(name in self.chains)
        for rule in self.chains[name][1]:
            self._hold(rule, -1)
        self.chains[name][1].clear()

    def delete_chain(self, name: str, _rest: str) -> None:
        _present(name in self.chains)
        _free(self.held["chain"][name])
        self.flush_chain(name, "")
        del self.chains[name]

    def add_rule(self, name: str, rest: str) -> None:
        _present(name in self.chains)
        if not rest:
            raise _RefusedError("syntax error")
        _present(counters_of([rest]) <= self.counters.keys())
        _present(sets_of([rest]) <= self.sets.keys())
        for chain in chains_of([rest]):
            self._may_lead_to(chain)
        self._hold(rest, 1)
        self.chains[name][1].append(rest)

    def validate(self) -> None:
        """What the kernel looks at when all commands are in: from each base chain, no loop, and not too deep."""
        for name, (hook, _) in self.chains.items():
            if hook:
                self._walk(name, ())

    def _walk(self, name: str, above: tuple[str, ...]) -> None:
        if name in above or len(above) >= DEEPEST:
            raise KernelRefused(f"chain {name}: Too many links")
        for each in sorted(self._leads(name)):
            self._walk(each, (*above, name))

    def _leads(self, name: str) -> set[str]:
        rules = self.chains[name][1]
        by_map = {
            chain
            for found in sets_of(rules)
            if self.sets[found].data == "verdict"
            for chain in map(target, self.elements[found].values())
            if chain
        }
        return chains_of(rules) | by_map

    def _may_lead_to(self, chain: str) -> None:
        _present(chain in self.chains)
        if self.chains[chain][0]:
            raise _RefusedError("Operation not supported")

    def _hold(self, rule: str, by: int) -> None:
        for kind, names in (
            ("chain", chains_of([rule])),
            ("set", sets_of([rule])),
            ("counter", counters_of([rule])),
        ):
            for name in names:
                self.held[kind][name] += by

    def _hold_target(self, element: str, by: int) -> None:
        if chain := target(element):
            if by > 0:
                self._may_lead_to(chain)
            self.held["chain"][chain] += by


_COMMAND = re.compile(
    r"(?P<verb>add|delete|flush) (?P<kind>table|counter|set|map|element|chain|rule) (?P<family>inet|bridge) "
    + TABLE
    + r"(?: (?P<name>[A-Za-z_][\w./-]*)(?: (?P<rest>.+))?)?",
    re.DOTALL,
)
_QUOTED = re.compile(r'"[^"]*"')
_KEY = re.compile(r"(?:type )?(?P<key>[^:]+?)(?: : (?P<data>\w+))?")


def _commands(batch: str) -> Iterator[tuple[int, str]]:
    """Yield commands with their line; a brace that a line leaves open is closed by a line of its own."""
    held: list[str] = []
    for number, line in enumerate(batch.splitlines(), 1):
        if held:
            held.append(line)
            if line.strip() != "}":
                continue
        elif (bare := _QUOTED.sub("", line)).count("{") > bare.count("}"):
            held = [line]
            continue
        elif not line.strip():
            continue
        yield number, "\n".join(held) if held else line
        held = []
    if held:
        raise KernelRefused("syntax error, unexpected end of file")


def _declared(rest: str) -> ElementSet:
    found: dict[str, str] = {}
    for part in re.split(r";\s*|\n", rest.strip().removeprefix("{").removesuffix("}").strip()):
        word, _, value = part.strip().partition(" ")
        found[word] = value
    typed = f"typeof {found['typeof']}" if "typeof" in found else found["type"]
    matched = _KEY.fullmatch(typed)
    if matched is None:
        raise _RefusedError("syntax error")
    flags = {flag for flag in found.get("flags", "").split(",") if flag}
    timeout = int(found.get("timeout", "0s").removesuffix("s"))
    if timeout:
        flags.add("timeout")
    return ElementSet(
        matched["key"],
        data=matched["data"] or "",
        flags=tuple(sorted(flags)),
        timeout=timeout,
        comment=found.get("comment", "").strip('"'),
        dynamic="dynamic" in flags,
    )


def _listed(rest: str) -> list[str]:
    inner = rest.strip().removeprefix("{").removesuffix("}").strip()
    if not inner:
        raise _RefusedError("syntax error")
    return inner.split(", ")


_KINDS = {
    "ipv4_addr": re.compile(r"[0-9./-]*\.[0-9./-]*"),
    "ipv6_addr": re.compile(r"[0-9a-f:./-]*:[0-9a-f:./-]*"),
    "ether_addr": re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}"),
    "inet_service": re.compile(r"[0-9-]+"),
    "ifname": re.compile(r'"[^"]{1,15}"'),
}


def _fits(kind: str, key: str) -> bool:
    """Tell whether an element's key has the fields of its set. Expressions are not looked into."""
    if kind.startswith("typeof "):
        return True
    kinds, parts = kind.split(" . "), key.split(" . ")
    return len(kinds) == len(parts) and all(
        each not in _KINDS or _KINDS[each].fullmatch(part) is not None for each, part in zip(kinds, parts, strict=True)
    )


def _apart(elements: Iterable[str]) -> None:
    """Intervals of addresses do not overlap."""
    for (family, _, last), (next_family, first, _) in pairwise(sorted(map(_bounds, elements))):
        if family == next_family and first <= last:
            raise _RefusedError("conflicting intervals specified")


def _bounds(element: str) -> tuple[int, int, int]:
    if "-" in element:
        low, _, high = element.partition("-")
        first, last = ipaddress.ip_address(low), ipaddress.ip_address(high)
        return first.version, int(first), int(last)
    network = ipaddress.ip_network(element)
    return network.version, int(network[0]), int(network[-1])


def _refused(line: int, why: str, command: str) -> KernelRefused:
    return KernelRefused(f"line {line}: {why}: {command[:120]}")


def _new(there: bool) -> None:
    if there:
        raise _RefusedError("File exists")


def _present(there: bool) -> None:
    if not there:
        raise _RefusedError("No such file or directory")


def _free(holders: int) -> None:
    if holders:
        raise _RefusedError("Device or resource busy")


def _addresses(connection: Connection) -> set[Address]:
    return {connection.source, connection.destination, connection.reply_source, connection.reply_destination}


def _tuple(connection: Connection) -> tuple[object, ...]:
    one = connection
    return (one.protocol, one.source, one.destination, one.source_port, one.destination_port, one.icmp)
