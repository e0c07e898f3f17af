"""Probes between a lab's nodes: many at once, each with what its sender saw and whether it really arrived.

Silence is told from slowness without long waits: once patience is over the kernel's backlog is let run empty and every
server is asked to deal with all that has reached it, some times over; what then still has no answer has none coming.
Where the machine dropped packets meanwhile, what met silence is tried again. Load makes probes slower, never wrong.
"""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from stockade.core.model.net import PORTED, Protocol
from stockade.testing.lab.backlog import drained, dropped, refused_neighbours
from stockade.testing.lab.namespaces import Namespace
from stockade.testing.lab.topology import LabError
from stockade.testing.probe.values import ECHO4, ECHO6, Flow, Heard, Observed, Outcome, Probe, Result

PATIENCE = 0.15
"""Seconds after which silence is looked into."""
AT_ONCE = 400
"""Connections that one server opens at the same moment; after a machine has dropped packets ``CAREFUL``."""
CAREFUL = 20
STEPS = 4
"""Times that everything is let come to rest: a connection is made, asked and answered step by step."""
TRIES = 3
PORTS = range(20_000, 60_000)
"""Source ports that probes go through in turn: a frame is known by its source port wherever it turns up."""
ICMPS = (Protocol.ICMP, Protocol.ICMPV6)

Ends = Mapping[str, Namespace]
Addresses = Callable[[str, int], str]
Item = dict[str, Any]
Wanted = TypeVar("Wanted")
Told = TypeVar("Told", Result, Heard)


class Prober:
    """Asks the servers. ``ends`` are the namespaces by name, ``address`` finds a node's address of a family."""

    def __init__(self, ends: Ends, address: Addresses) -> None:
        self._ends, self._address = ends, address
        self._ports = itertools.cycle(PORTS)
        self._nonces = itertools.count(int.from_bytes(os.urandom(4), "big") << 16)
        self._listening: dict[str, set[tuple[int, int, str]]] = {}

    # Probes

    async def probe(self, probes: Iterable[Probe], *, patience: float = PATIENCE, listen: bool = True) -> list[Result]:
        """Try all of these at once; return their results in the same order.

        ``listen`` first opens whatever port is probed, at its destination, and leaves it open.
        """
        wanted = list(probes)
        if listen:
            await self.listen_for(wanted)
        return await self._insist(wanted, lambda each, at_once: self._probe(each, patience, at_once))

    async def _probe(self, wanted: list[Probe], patience: float, at_once: int) -> list[Result]:
        items = [self._item(each) for each in wanted]
        reports = await self._batches("probe", [each.source for each in wanted], items, patience, at_once)
        seen = await self.seen((each.destination, _key(item)) for each, item in zip(wanted, items, strict=True))
        return [_result(probe, report, arrived) for probe, report, arrived in zip(wanted, reports, seen, strict=True)]

    async def listen_for(self, probes: Iterable[Probe]) -> None:
        """Open whatever ports these probes go to."""
        ports: dict[str, set[tuple[int, int, str]]] = {}
        for each in probes:
            if each.protocol in PORTED and each.destination in self._ends:
                ports.setdefault(each.destination, set()).add((each.protocol, each.port, ""))
        await asyncio.gather(*(self.listen(name, sorted(wanted)) for name, wanted in ports.items()))

    async def listen(self, name: str, ports: Iterable[tuple[int, int, str]]) -> None:
        """Listen, at a node, on (protocol, port, address; empty: all)."""
        held = self._listening.setdefault(name, set())
        if new := [each for each in ports if each not in held]:
            await self._end(name).ask("listen", ports=new)
            held.update(new)

    async def unlisten(self, name: str, ports: Iterable[tuple[int, int, str]]) -> None:
        """Listen there no longer."""
        wanted = list(ports)
        await self._end(name).ask("unlisten", ports=wanted)
        self._listening.setdefault(name, set()).difference_update(wanted)

    def forget(self, name: str) -> None:
        """A node is gone."""
        self._listening.pop(name, None)

    # Flows

    async def open(self, probes: Iterable[Probe], *, patience: float = PATIENCE, listen: bool = True) -> list[Flow]:
        """Open connections and keep them (TCP, UDP, SCTP)."""
        wanted = list(probes)
        if listen:
            await self.listen_for(wanted)
        items = [{**self._item(each), "key": self.nonce()} for each in wanted]
        reports = await self._batches("probe", [each.source for each in wanted], items, patience, AT_ONCE)
        return [
            Flow(item["key"], probe, report[2], Outcome(report[0]), report[1])
            for probe, item, report in zip(wanted, items, reports, strict=True)
        ]

    async def send(self, flows: Iterable[Flow], *, back: bool = False, patience: float = PATIENCE) -> list[Heard]:
        """Ask along each flow whether it still carries packets: from its opener or, ``back``, from its other end."""
        return await self._insist(list(flows), lambda each, at_once: self._send(each, patience, at_once, back=back))

    async def _send(self, wanted: list[Flow], patience: float, at_once: int, *, back: bool) -> list[Heard]:
        items = [self._question(flow, back=back) for flow in wanted]
        askers = [flow.probe.destination if back else flow.probe.source for flow in wanted]
        targets = [flow.probe.source if back else flow.probe.destination for flow in wanted]
        reports = await self._batches("ask", askers, items, patience, at_once)
        seen = await self.seen((target, item["nonce"]) for target, item in zip(targets, items, strict=True))
        return [
            Heard(flow, Outcome(report[0]), report[1], delivered=bool(arrived))
            for flow, report, arrived in zip(wanted, reports, seen, strict=True)
        ]

    async def close(self, flows: Iterable[Flow]) -> None:
        """Close flows, with a reset where there is one."""
        keys: dict[str, list[str]] = {}
        for flow in flows:
            keys.setdefault(flow.probe.source, []).append(flow.key)
        await asyncio.gather(*(self._end(name).ask("close", keys=each) for name, each in keys.items()))

    # What arrived

    async def seen(self, wanted: Iterable[tuple[str, str]]) -> list[list[Observed]]:
        """Return, for each (node, key), the frames that arrived there; a key is a nonce or ``protocol/source port``.

        Raises ``LabError`` where a server could not keep up and so does not know.
        """
        asked = list(wanted)
        await drained()
        keys: dict[str, list[str]] = {}
        for name, key in asked:
            if name in self._ends:
                keys.setdefault(name, []).append(key)
        found: dict[tuple[str, str], list[Observed]] = {}
        answers = await asyncio.gather(*(self._end(name).ask("seen", keys=each) for name, each in keys.items()))
        for (name, each), answer in zip(keys.items(), answers, strict=True):
            if answer["lost"]:
                raise LabError(f"{name} lost {answer['lost']} frames unseen", remedy="send fewer at once")
            for key, frames in zip(each, answer["frames"], strict=True):
                found[name, key] = msgspec.convert(frames, list[Observed])
        return [found.get(each, []) for each in asked]

    async def clear(self) -> None:
        """Have every node forget what has arrived at it so far, and what it may have lost."""
        await asyncio.gather(*(each.ask("clear") for each in list(self._ends.values())))

    async def inject(self, name: str, frames: Sequence[bytes], link: str = "eth0") -> list[int]:
        """Send frames by a node's link, or (``link`` empty) IP packets from its stack; return errnos, 0 for sent."""
        answer: list[int] = await self._end(name).ask("inject", link=link, frames=[each.hex() for each in frames])
        return answer

    def nonce(self) -> str:
        """Return a mark that no other packet of this lab carries."""
        return f"STK{next(self._nonces) & 0xFFFFFFFFFFFF:012x}"

    def port(self) -> int:
        """Return a source port that no recent packet of this lab has."""
        return next(self._ports)

    # Small parts

    def _end(self, name: str) -> Namespace:
        if name not in self._ends:
            raise LabError(f"there is no node {name}", remedy=f"the nodes are {', '.join(sorted(self._ends))}")
        return self._ends[name]

    def _item(self, probe: Probe) -> Item:
        six = ":" in probe.address if probe.address else probe.family == 6
        protocol, port = probe.protocol, probe.port
        if protocol in ICMPS:
            protocol = Protocol.ICMPV6 if six else Protocol.ICMP
            port = port or (ECHO6 if six else ECHO4)
        return {
            "protocol": int(protocol),
            "address": probe.address or self._address(probe.destination, 6 if six else 4),
            "port": port,
            "source_address": probe.source_address,
            "source_port": probe.source_port or self.port(),
            "ttl": probe.ttl,
            "size": probe.size,
            "nonce": self.nonce(),
        }

    def _question(self, flow: Flow, *, back: bool) -> Item:
        return {
            "protocol": int(flow.probe.protocol),
            "key": flow.key,
            "source_port": flow.source_port,
            "nonce": self.nonce(),
            "back": back,
        }

    async def _insist(
        self, wanted: list[Wanted], ask: Callable[[list[Wanted], int], Awaitable[list[Told]]]
    ) -> list[Told]:
        """Ask; where the machine itself dropped packets meanwhile, ask again about whatever met silence."""
        before, room = dropped(), refused_neighbours()
        results = await ask(wanted, AT_ONCE)
        if refused_neighbours() != room or any(each.detail == "ENOBUFS" for each in results):
            raise LabError(
                "the kernel has no room for so many neighbours, so that probes would seem denied",
                remedy="probe fewer pairs, or raise net.ipv4.neigh.default.gc_thresh3 (and ipv6's) on this machine",
            )
        for _ in range(TRIES):
            silent = [place for place, each in enumerate(results) if each.outcome is Outcome.TIMED_OUT]
            if not silent or before == (before := dropped()):
                break
            for place, again in zip(silent, await ask([wanted[place] for place in silent], CAREFUL), strict=True):
                results[place] = again
        return results

    async def _batches(
        self, op: str, names: list[str], items: list[Item], patience: float, at_once: int
    ) -> list[list[Any]]:
        """Have each node do its items, some hundred at a time; return the reports in the order of the items."""
        reports: list[list[Any]] = [[] for _ in items]
        places: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(name, []).append(place)
        while places:
            now = {name: each[:at_once] for name, each in places.items()}
            places = {name: each[at_once:] for name, each in places.items() if each[at_once:]}
            answers = await self._one_batch(
                op, {name: [items[n] for n in each] for name, each in now.items()}, patience
            )
            for name, each in now.items():
                for place, report in zip(each, answers[name], strict=True):
                    reports[place] = report
        return reports

    async def _one_batch(self, op: str, items: Mapping[str, list[Item]], patience: float) -> dict[str, list[Any]]:
        begun = {name: self._end(name).begin(op, items=each, patience=patience) for name, each in items.items()}
        await asyncio.gather(*(self._end(name).patience_over(number) for name, (number, _) in begun.items()))
        late = {name: number for name, (number, answer) in begun.items() if not answer.done()}
        if late:
            await self._settle_down()
            await asyncio.gather(*(self._end(name).ask("finish", batch=number) for name, number in late.items()))
        answers: Sequence[Any] = await asyncio.gather(*(answer for _, answer in begun.values()))
        return dict(zip(begun, answers, strict=True))

    async def _settle_down(self) -> None:
        for _ in range(STEPS):
            await drained()
            waits: list[Awaitable[Any]] = [each.ask("sync") for each in list(self._ends.values())]
            await asyncio.gather(*waits)


def _key(item: Item) -> str:
    """Return by what an arrived frame of this probe is known: its nonce where its first packet carries one."""
    if item["protocol"] == Protocol.UDP:
        return str(item["nonce"])
    return f"{item['protocol']}/{item['source_port']}"


def _result(probe: Probe, report: list[Any], arrived: list[Observed]) -> Result:
    outcome, detail, source_port, elapsed = report
    return Result(probe, Outcome(outcome), detail, bool(arrived), source_port, elapsed)
