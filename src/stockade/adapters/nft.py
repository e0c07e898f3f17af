"""The kernel's nftables, by way of the helper that holds libnftables. Nothing here decides anything."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stockade.core.compile.nft.ruleset import Chain, ElementSet, Ruleset, Table
from stockade.core.model.ids import Address
from stockade.seams.kernel import Connection, KernelRefused, Tracking

HELPER = Path(__file__).resolve().parent.parent / "nfthelper" / "__main__.py"
PATIENCE = 30.0
"""Seconds within which the helper must answer."""
START = 10.0
"""Seconds within which a helper that was started must listen."""


class NftKernel:
    """Implements ``seams.kernel.Kernel``. The helper is started when nobody answers on its socket, and left running."""

    def __init__(self, path: Path, tracking: Tracking) -> None:
        """``path``: the helper's Unix socket. ``tracking``: the host's connection tracking."""
        self._path = path
        self._peer: socket.socket | None = None
        self.tracking = tracking
        self.owned: Mapping[str, bool] = {}

    def observe(self) -> Ruleset:
        """Return our tables as they are now. Dynamic sets come without elements."""
        documents = self._ask({"op": "list"})["documents"].splitlines()
        tables = (_table(json.loads(document)["nftables"]) for document in documents)
        return Ruleset(tuple(sorted(tables, key=lambda table: table.family, reverse=True)))

    def commit(self, batch: str) -> None:
        """Carry out one transaction, all or nothing. Raises ``KernelRefused``."""
        self._ask({"op": "commit", "text": batch})

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return (packets, bytes) by counter name, of both tables together."""
        found: dict[str, tuple[int, int]] = {}
        for document in self._ask({"op": "list"})["documents"].splitlines():
            for item in json.loads(document)["nftables"]:
                if counter := item.get("counter"):
                    packets, size = found.get(counter["name"], (0, 0))
                    found[counter["name"]] = (packets + counter["packets"], size + counter["bytes"])
        return found

    def connections(self, mark: int = 0, mask: int = 0) -> Iterable[Connection]:
        """Walk the tracked connections whose ``mark & mask == mark``."""
        return self.tracking.connections(mark, mask)

    def mark(self, connection: Connection, mark: int) -> bool:
        """Set a connection's mark; False where it is gone."""
        return self.tracking.mark(connection, mark)

    def end(self, connection: Connection) -> bool:
        """Delete one connection's entry; False where it is gone already."""
        return self.tracking.end(connection)

    def forget(self, addresses: Iterable[Address]) -> int:
        """Delete every entry that has one of these addresses at either end; return how many."""
        return self.tracking.forget(addresses)

    def helper_pid(self) -> int:
        """Return the helper's process id, starting it if need be."""
        return int(self._ask({"op": "ping"})["pid"])

    def quit_helper(self) -> None:
        """End the helper. The tables stay where the kernel lets them persist, and become anybody's to adopt."""
        with contextlib.suppress(OSError):
            self._talk({"op": "quit"}, self._connected())
        self.close()

    def close(self) -> None:
        """Let go of the helper, which goes on."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def _ask(self, request: dict[str, str]) -> dict[str, Any]:
        """Ask once more on a new connection, or of a new helper, where the old one is gone: requests may repeat."""
        peer = self._connected()
        try:
            reply = self._talk(request, peer)
        except (OSError, EOFError):
            self.close()
            reply = self._talk(request, self._connected())
        self.owned = reply.get("owned", self.owned)
        if not reply["ok"]:
            raise KernelRefused(reply["error"].strip())
        return reply

    def _talk(self, request: dict[str, str], peer: socket.socket) -> dict[str, Any]:
        body = json.dumps(request).encode()
        peer.sendall(struct.pack(">I", len(body)) + body)
        (length,) = struct.unpack(">I", _receive(peer, 4))
        reply: dict[str, Any] = json.loads(_receive(peer, length))
        return reply

    def _connected(self) -> socket.socket:
        if self._peer is None:
            self._peer = _dial(self._path) or self._start()
        return self._peer

    def _start(self) -> socket.socket:
        """Start a helper that outlives us, in our network namespace."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.Popen(
            [sys.executable, "-I", str(HELPER), str(self._path), str(os.getuid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            if peer := _dial(self._path):
                return peer
            time.sleep(0.01)
        raise OSError(f"the nftables helper did not listen on {self._path} within {START:.0f} s: is libnftables there?")


def _dial(path: Path) -> socket.socket | None:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PATIENCE)
    try:
        peer.connect(str(path))
    except OSError:
        peer.close()
        return None
    return peer


def _receive(peer: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = peer.recv(min(count, 1 << 20))
        if not part:
            raise EOFError("the nftables helper is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _table(items: list[dict[str, Any]]) -> Table:
    """Read one table out of nft's JSON."""
    sets: dict[str, ElementSet] = {}
    chains: dict[str, tuple[str, list[str]]] = {}
    counters = set()
    family = ""
    for item in items:
        ((kind, value),) = item.items()
        if kind == "table":
            family = value["family"]
        elif kind in ("set", "map"):
            sets[value["name"]] = _set(value)
        elif kind == "counter":
            counters.add(value["name"])
        elif kind == "chain":
            chains[value["name"]] = (_hook(value), [])
        elif kind == "rule":
            chains[value["chain"]][1].append(f' comment "{value.get("comment", "")}"')
    return Table(
        family,
        sets=sets,
        counters=frozenset(counters),
        chains={name: Chain(hook, tuple(rules)) for name, (hook, rules) in chains.items()},
    )


def _hook(chain: dict[str, Any]) -> str:
    if "hook" not in chain:
        return ""
    return f"type {chain['type']} hook {chain['hook']} priority {chain['prio']}; policy {chain['policy']};"


def _set(value: dict[str, Any]) -> ElementSet:
    types = [value["type"]] if isinstance(value["type"], str) else value["type"]
    flags = tuple(sorted(value.get("flags", ())))
    dynamic = "timeout" in flags
    if dynamic:  # nft's JSON does not tell that packets fill it; ours with a timeout are all filled by packets
        flags = ("dynamic", "timeout")
    elements = () if dynamic else value.get("elem", ())
    return ElementSet(
        key="typeof" if "integer" in types else " . ".join(types),
        data=value.get("map", ""),
        flags=flags,
        timeout=value.get("timeout", 0),
        comment=value.get("comment", ""),
        elements=frozenset(_element(each, types, is_map="map" in value) for each in elements),
        dynamic=dynamic,
    )


def _element(element: Any, types: list[str], *, is_map: bool) -> str:
    if is_map:
        key, verdict = element
        ((action, target),) = verdict.items()
        return f"{_element(key, types, is_map=False)} : {action} {target['target']}"
    if isinstance(element, dict) and "elem" in element:
        element = element["elem"]["val"]
    parts = element["concat"] if isinstance(element, dict) and "concat" in element else [element]
    return " . ".join(_part(part, kind) for part, kind in zip(parts, types, strict=True))


def _part(part: Any, kind: str) -> str:
    if isinstance(part, dict) and "prefix" in part:
        return f"{part['prefix']['addr']}/{part['prefix']['len']}"
    if isinstance(part, dict) and "range" in part:
        return "-".join(map(str, part["range"]))
    if kind == "ifname":
        return f'"{part}"'
    if kind == "integer":
        return f"{int(str(part), 0):#034x}"
    return str(part)
