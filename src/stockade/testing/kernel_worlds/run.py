"""World after world on one ground: each is brought into force over the one before, tried, and compared.

Connections opened in one world are asked again in the next: those that it still allows must live, the others end. What
the kernel lets through and the oracle denies is never tried again; what it loses is, a little later: a neighbour that
did not answer in the world before is asked again by its own kernel only after a second.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import msgspec
from msgspec.structs import replace

from stockade.agent.machine import changed_hands
from stockade.core.compile.nft import programs
from stockade.core.model.ids import Address
from stockade.core.model.net import Protocol
from stockade.core.model.packet import Packet, PacketState, Verdict
from stockade.core.model.policy import Action
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import verdict
from stockade.testing.kernel_worlds.ground import OUTSIDE, TRANSLATED, Ground, topology
from stockade.testing.kernel_worlds.making import make
from stockade.testing.kernel_worlds.strange import Oddities, Oddity
from stockade.testing.kernel_worlds.trials import Cell, Trial, Trials, disagreement
from stockade.testing.lab.topology import LabError
from stockade.testing.probe import packets
from stockade.testing.probe.values import Flow, Heard, Outcome

PAUSE = 0.1
"""Seconds after which a kernel asks for a neighbour again that did not answer."""
AGAIN = 3
"""How often more what was lost is tried, after pauses that double."""
TRIES = 5
FLOWS = 12
PROCESSES = 4
KEPT_OPEN = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


class Tally(msgspec.Struct):
    """What was tried. ``packets`` counts the first packet of each trial, and whatever was made by hand."""

    worlds: int = 0
    packets: int = 0
    denied: int = 0
    cells: Counter[Cell] = msgspec.field(default_factory=Counter)
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    wrong: list[str] = msgspec.field(default_factory=list)

    def count(self, *, passes: bool) -> None:
        """One more packet was judged."""
        self.packets += 1
        self.denied += not passes

    def add(self, other: "Tally") -> None:
        """Take in what somebody else tried."""
        self.worlds += other.worlds
        self.packets += other.packets
        self.denied += other.denied
        self.cells.update(other.cells)
        self.kinds.update(other.kinds)
        self.wrong += other.wrong


class Carried(msgspec.Struct, frozen=True):
    """A connection opened in one world, to be asked in the next."""

    flow: Flow
    trial: Trial
    kept: bool


class Asked(msgspec.Struct, frozen=True):
    """A question along a connection, and what is expected: ``passes``, it arrives; ``alive``, it is answered (or None:
    nobody can say). ``anew``: the connection was ended, so that the question begins another.
    """

    carried: Carried
    back: bool
    anew: bool
    first: Packet
    second: Packet
    passes: bool
    alive: bool | None


class Runner:
    """Tries worlds on a ground, one after the other."""

    def __init__(self, ground: Ground, effort: float = 0.5) -> None:
        self.ground, self.effort = ground, effort
        self.tally = Tally()
        self.seed = 0
        self._carried: list[Carried] = []
        self._changed: tuple[Address, ...] = ()

    async def prepare(self) -> None:
        """Open what the doors lead to."""
        for door in self.ground.doors:
            await self.ground.lab.listen(door.to, door.protocol, door.to_port)

    async def patiently(self, seed: int) -> None:
        """Try a world, again where the machine had no room for it: others may be at work on it."""
        for attempt in range(TRIES):
            before = self.tally
            self.tally = Tally()
            try:
                await self.world(seed)
            except LabError as problem:
                self.tally, self._carried = before, []
                if "room" not in str(problem) or attempt + 1 == TRIES:
                    raise
                await asyncio.sleep(PAUSE)
            else:
                before.add(self.tally)
                self.tally = before
                return

    async def world(self, seed: int) -> None:
        """Bring the world of a seed into force and try it."""
        self.seed = seed
        random = Random(seed)
        snapshot = make(self.ground, seed)
        trials = Trials(self.ground, snapshot, random, self.effort)
        chosen = trials.all()
        await self.ground.lab.clear()
        before = self.ground.intent
        self.ground.apply(snapshot)
        self._changed = changed_hands(before, self.ground.intend(snapshot))
        await self._announce(*self.ground.lab.names)
        await self._ask_carried(snapshot, random)
        await self._try(snapshot, chosen)
        await self._try_oddities(list(Oddities(self.ground, snapshot, random, trials).all()))
        await self._carry(snapshot, random, chosen)
        self.ground.check_proxy()
        self.tally.worlds += 1

    # Connections

    async def _try(self, snapshot: Snapshot, chosen: list[Trial]) -> None:
        """The host's own first, by proxies last: what is done at a proxy may open a way for the host as well."""
        itself = self.ground.lab.host_name
        await self._compare(snapshot, [each for each in chosen if each.probe.source == itself and not each.loopback])
        await self._compare(snapshot, [each for each in chosen if each.probe.source == itself and each.loopback])
        await self._compare(snapshot, [each for each in chosen if each.probe.source != itself])

    async def _compare(self, snapshot: Snapshot, trials: list[Trial]) -> None:
        lab = self.ground.lab
        left = trials
        for attempt in range(AGAIN + 1):
            await self.ground.listen_for(each.probe for each in left)
            results = await lab.probe([each.probe for each in left], listen=False)
            found = [(t, r, why) for t, r in zip(left, results, strict=True) if (why := disagreement(t, r))]
            lost = [trial for trial, _, _ in found if trial.passes and attempt < AGAIN]
            for trial, result, why in found:
                if trial not in lost:
                    said = f"{result.outcome.value} {result.detail} delivered={result.delivered}"
                    self._wrong(snapshot, f"{trial.path.value}: {why}: {said}", trial.judged, trial.back)
            if not (left := lost):
                break
            await asyncio.sleep(PAUSE * 2**attempt)
        for each in trials:
            self.tally.count(passes=each.passes)
            if each.cell:
                self.tally.cells[each.cell] += 1
            if each.judged.state is PacketState.UNTRACKED:
                self.tally.kinds["untracked"] += 1

    # Packets made by hand

    async def _announce(self, *names: str) -> None:
        """Have nodes on a bridge speak: it learns where a MAC lives from whoever used it last, forgers too."""
        lab = self.ground.lab
        for name in names:
            for plug in lab.plugs(name):
                if plug.bridge:
                    four = next(each for each in plug.bare if ":" not in each)
                    said = packets.arp(plug.mac, four, four)
                    frame = packets.ethernet(plug.mac, packets.BROADCAST, said, ethertype=packets.ARP)
                    await lab.inject(name, [frame], plug.interface)

    async def _try_oddities(self, oddities: list[Oddity]) -> None:
        lab = self.ground.lab
        by_sender: dict[str, list[bytes]] = {}
        for each in oddities:
            if not each.robbed:
                by_sender.setdefault(each.sender, []).extend(each.frames)
        await asyncio.gather(*(lab.inject(name, frames) for name, frames in by_sender.items()))
        for each in oddities:
            if each.robbed:
                await lab.inject(each.sender, each.frames)
                await self._announce(each.robbed)
        wanted = [(each, name, passes) for each in oddities for name, passes in each.sees]
        found = await lab.seen_all((name, each.key) for each, name, _ in wanted)
        for (each, name, passes), arrived in zip(wanted, found, strict=True):
            self.tally.count(passes=passes)
            self.tally.kinds[each.kind.value] += 1
            if bool(arrived) != passes:
                said = "allows" if passes else "denies"
                self.tally.wrong.append(
                    f"seed {self.seed}: {each.kind.value}: the oracle {said}, {name}: {each.judged}"
                )

    # Connections that live on from world to world

    async def _carry(self, snapshot: Snapshot, random: Random, chosen: Iterable[Trial]) -> None:
        able = [
            each
            for each in chosen
            if each.returns and each.probe.protocol in KEPT_OPEN and not each.proxied
            and each.judged.state is PacketState.NEW and not each.loopback and not self._like_a_proxy(each)
        ]  # fmt: skip
        some = random.sample(able, min(FLOWS, len(able)))
        probes = [replace(each.probe, source_port=0) for each in some]
        flows = await self.ground.lab.open(probes, listen=False)
        for trial, flow in zip(some, flows, strict=True):
            if flow.opened is Outcome.REACHED:
                kept = _keeps(snapshot, verdict(snapshot, trial.judged))
                self._carried.append(Carried(flow, trial, kept))
        await self._errors_about(snapshot)

    def _like_a_proxy(self, trial: Trial) -> bool:
        """Tell whether this is what a proxy on the host does too: nobody can tell the two connections apart."""
        return trial.probe.source == self.ground.lab.host_name and any(
            door.engine and (door.to, door.protocol) == (trial.probe.destination, trial.probe.protocol)
            for door in self.ground.doors
        )

    async def _ask_carried(self, snapshot: Snapshot, random: Random) -> None:
        forwards = [each for each in self._carried if random.random() < 0.5]
        backwards = [each for each in self._carried if each not in forwards]
        for some, back in ((forwards, False), (backwards, True)):
            asked = [self._expected(snapshot, each, back=back) for each in some]
            await self._ask(snapshot, [each for each in asked if not self._unforeseeable(each)])
        await self.ground.lab.shut(each.flow for each in self._carried)
        self._carried = []

    async def _ask(self, snapshot: Snapshot, asked: list[Asked]) -> None:
        """Ask along connections, all in one direction; those that were lost again, as any that are tried."""
        left = asked
        for attempt in range(AGAIN + 1):
            if not left:
                break
            heard = await self.ground.lab.send([each.carried.flow for each in left], back=left[0].back)
            wrong = [(each, said) for each, said in zip(left, heard, strict=True) if not _as_expected(each, said)]
            lost = [each for each, said in wrong if attempt < AGAIN and _only_lost(each, said)]
            for each, said in wrong:
                if each not in lost:
                    told = f"a live connection, {'back' if each.back else 'forth'}: {said.outcome.value} {said.detail}"
                    wanted = f"delivered={said.delivered}, wanted {each.passes} {each.alive}"
                    self._wrong(snapshot, f"{told} {wanted}", each.first, each.second)
            left = lost
            await asyncio.sleep(PAUSE * 2**attempt if left else 0)
        for each in asked:
            self.tally.count(passes=each.passes)
            self.tally.kinds["live, asked back" if each.back else "live"] += 1

    def _expected(self, snapshot: Snapshot, each: Carried, *, back: bool) -> Asked:
        there = replace(each.trial.judged, state=PacketState.ORIGINAL, kept=each.kept)
        answer = replace(each.trial.back, kept=each.kept)
        first, second = (answer, there) if back else (there, answer)
        anew = not verdict(snapshot, there).allowed or self._moved(each)
        if anew:
            first, second = self._begun_anew(each, back=back)
        passes = verdict(snapshot, first).allowed
        alive: bool | None = passes and verdict(snapshot, second).allowed
        if anew and each.trial.door is not None:
            alive = None  # whoever opened it by a door does not know the workload's own address
        return Asked(each, back, anew, first, second, passes, alive)

    def _unforeseeable(self, asked: Asked) -> bool:
        """Tell whether a connection that was ended is begun anew across source translation: as another one."""
        inner = (asked.carried.trial.judged.source, self._real(asked.carried)[0])
        outer = asked.carried.trial.probe
        return (
            asked.anew
            and asked.back
            and any(each.startswith(TRANSLATED) for each in inner)
            and bool({outer.source, outer.destination} & set(OUTSIDE))
        )

    def _moved(self, each: Carried) -> bool:
        real = self._real(each)
        ends = (each.trial.judged.source, each.trial.judged.destination, real[0])
        return any(address in self._changed for address in ends)

    def _real(self, each: Carried) -> tuple[Address, int]:
        """Return where a connection really goes: behind a door to the workload."""
        door = each.trial.door
        if door is None:
            return each.trial.judged.destination, each.trial.judged.port
        return Address(self.ground.lab.address(door.to, each.trial.probe.family)), door.to_port

    def _begun_anew(self, each: Carried, *, back: bool) -> tuple[Packet, Packet]:
        """A connection that is ended is forgotten: whoever speaks next begins one, in the direction of the speaking."""
        judged = each.trial.judged
        state = PacketState.MIDSTREAM if judged.protocol is Protocol.TCP else PacketState.NEW
        if back:
            address, port = self._real(each)
            judged = replace(
                judged, source=address, source_port=port, destination=judged.source, port=each.flow.source_port,
                interface=judged.leaving, leaving=judged.interface,
            )  # fmt: skip
        first = replace(judged, state=state)
        turned = {"interface": first.leaving, "leaving": first.interface, "sender_address": first.destination}
        return first, replace(first, state=PacketState.REPLY, **turned)

    async def _errors_about(self, snapshot: Snapshot) -> None:
        """ICMP errors about live connections, from their other ends and from somebody else."""
        lab = self.ground.lab
        for each in self._carried:
            probe, judged = each.trial.probe, each.trial.judged
            if judged.source.startswith(TRANSLATED) and probe.destination in OUTSIDE:
                continue  # translated on its way out
            if (
                probe.protocol is not Protocol.UDP
                or lab.host_name in (probe.source, probe.destination)
                or each.trial.door
            ):
                continue
            nonce = lab.nonce()
            about = packets.udp(judged.source, judged.destination, each.flow.source_port, probe.port, nonce.encode())
            whole = packets.ip(judged.source, judged.destination, packets.UDP, about)
            error = packets.unreachable(judged.destination, judged.source, whole)
            place = next(n for n, plug in enumerate(lab.plugs(probe.destination)) if plug.port == judged.leaving)
            if place:
                continue
            related = replace(
                judged, state=PacketState.RELATED, interface=judged.leaving, leaving="",
                sender_address=judged.destination, source_port=each.flow.source_port,
            )  # fmt: skip
            passes = verdict(snapshot, related).allowed
            await lab.inject(probe.destination, [lab.frame(probe.destination, error)])
            self.tally.count(passes=passes)
            self.tally.kinds["an error about a live connection"] += 1
            if bool(await lab.seen(probe.source, nonce)) != passes:
                self._wrong(snapshot, f"an error about a live connection, wanted {passes}", related)

    def _wrong(self, snapshot: Snapshot, what: str, *judged: Packet) -> None:
        ends = " / ".join(_told(verdict(snapshot, each)) for each in judged)
        packet = judged[0]
        between = f"{packet.source} -> {packet.destination} {packet.protocol.name}/{packet.port} {packet.state.value}"
        self.tally.wrong.append(
            f"seed {self.seed}: {what}: {between} by {packet.interface} to {packet.leaving}: {ends}"
        )


def _as_expected(asked: Asked, said: Heard) -> bool:
    return said.delivered == asked.passes and asked.alive in (said.alive, None)


def _only_lost(asked: Asked, said: Heard) -> bool:
    """Tell whether less came through than is allowed, not more."""
    return said.delivered <= asked.passes and (asked.alive is None or said.alive <= asked.alive)


def _keeps(snapshot: Snapshot, said: Verdict) -> bool:
    """Tell whether an allow with ``established: keep`` admitted a connection."""
    keeping = {
        rule.id
        for policy in snapshot.policy.policies
        for rule in policy.rules
        if rule.keep and rule.action is Action.ALLOW
    }
    return any(each.rule in keeping for each in said.ends)


def _told(said: Verdict) -> str:
    ends = [
        f"{e.direction.value} {'yes' if e.allowed else 'no'} {e.layer.value} {e.rule or ''}".strip() for e in said.ends
    ]
    return "; ".join(ends) or "judged nowhere"


class Shard(msgspec.Struct, frozen=True):
    """Worlds of one ground. ``realms``: each bridge is one; ``pairs``: any three lines stand in blocks of two."""

    seeds: range
    realms: bool = False
    pairs: bool = False


def try_apart(shards: Iterable[Shard]) -> Tally:
    """Try shards of worlds, each in a process of its own; most of the time they wait for silence."""
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        tally = Tally()
        for each in processes.map(_try_shard, shards):
            tally.add(each)
        return tally


def _try_shard(shard: Shard) -> Tally:
    if shard.pairs:
        stand_in_pairs()
    return asyncio.run(try_worlds(shard.seeds, realms=shard.realms))


def stand_in_pairs() -> None:
    """Have blocks of lines in this process where there are few lines, as in worlds of a lab's size."""
    programs.FEW = 2


async def try_worlds(seeds: Iterable[int], *, realms: bool = False, inet: bool = True, effort: float = 0.5) -> Tally:
    """Try the worlds of these seeds, one after the other, on one ground; what stays on a bridge is judged in the inet
    family, or else in the bridge family.
    """
    async with Ground(topology(realms=realms, bridge_nf=inet)) as ground:
        runner = Runner(ground, effort)
        await runner.prepare()
        for seed in seeds:
            await runner.patiently(seed)
        return runner.tally
