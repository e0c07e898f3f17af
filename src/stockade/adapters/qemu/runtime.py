"""``Runtime`` over the host's virtual machines: looked for every second, heard at once when a link says something."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from stockade.adapters.qemu import domains
from stockade.adapters.qemu.domains import Domain
from stockade.adapters.qemu.hearing import Claim, hear, listen
from stockade.adapters.qemu.learning import Learning
from stockade.adapters.qemu.processes import PROC, Looking, Process
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Endpoint, Facts, Sighting, WorkloadKind
from stockade.seams.clock import Clock
from stockade.seams.places import Tap
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

ROUND = 1.0
"""Seconds between two looks at the host's processes, at least."""
SHARE = 0.005
"""Of one processor, that they may take: where there are many processes, looks are farther apart."""
BURST, BREATH = 64, 0.05
"""Frames of one link that are read in one go, and the seconds after which it is listened to again: who talks without
end is heard a thousand times a second, and costs no more.
"""

Taps = Callable[[], Mapping[str, Tap]]


class Machine(msgspec.Struct, frozen=True):
    """A virtual machine that runs: its process, libvirt's word, and (tap, MAC) of each card whose tap it holds."""

    process: Process
    domain: Domain | None
    cards: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """What it is called: by libvirt, by its command line, or by its first tap."""
        told = self.domain.name if self.domain else ""
        return told or self.process.told.name or self.cards[0][0]

    @property
    def key(self) -> str:
        """What it is known by, across restarts."""
        told = self.domain.uuid if self.domain else ""
        return told or self.process.told.uuid or self.name


class QemuRuntime:
    """Implements ``seams.runtime.Runtime``.

    ``taps`` returns the host's taps by name; it blocks for a millisecond or so and is called in a thread.
    """

    name = "qemu"

    def __init__(
        self, host: HostId, *, taps: Taps, clock: Clock, proc: Path = PROC, libvirt: Path = domains.FOLDER
    ) -> None:
        self._host = host
        self._taps_now = taps
        self._clock = clock
        self._looking, self._libvirt = Looking(proc), libvirt
        self._learning = Learning()
        self._ears: dict[str, socket.socket] = {}
        self._taps: Mapping[str, Tap] = {}
        self._macs: dict[str, str] = {}
        self._moved = asyncio.Event()
        self._cost = 0.0

    @property
    def refused(self) -> int:
        """How many claims of addresses did not count."""
        return self._learning.refused

    def heed_strangers(self, ports: Iterable[str]) -> None:
        """Look at every process next time where there are ports of nobody's: one may have become a machine late."""
        if any(ports):
            self._looking.anew()

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield ``Listed`` first, then what changes; ``Lost`` where the host's processes cannot be read."""
        said: dict[WorkloadId, Seen] | None = None
        lost = False
        try:
            while True:
                self._moved.clear()
                try:
                    found = await asyncio.to_thread(self._look)
                except OSError as problem:
                    if not lost:
                        yield Lost(f"the host's virtual machines cannot be looked for: {problem}")
                    said, lost = None, True
                    await asyncio.sleep(ROUND)
                    continue
                lost = False
                now = {each.sighting.id: each for each in self._seen(found)}
                for event in _changes(said, now):
                    yield event
                said = now
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(ROUND, self._cost / SHARE)):
                        await self._moved.wait()
        finally:
            for port in list(self._ears):
                self._deafen(port)

    def _look(self) -> tuple[Machine, ...]:
        """Read what runs; in a thread. Links are listed only for somebody who may have one: there may be many."""
        began = time.thread_time()
        running = tuple(self._looking.machines())
        self._taps = self._taps_now() if running else {}
        known = domains.domains(self._libvirt) if running else {}
        found = tuple(_machine(each, known.get(each.pid)) for each in running)
        self._cost = time.thread_time() - began
        return tuple(each for each in found if each.cards)

    def _seen(self, found: tuple[Machine, ...]) -> Iterator[Seen]:
        macs = {tap: mac for each in found for tap, mac in each.cards if tap in self._taps}
        self._listen(macs)
        taken: set[WorkloadId] = set()
        for each in sorted(found, key=lambda machine: (machine.process.started, machine.process.pid)):
            id_ = WorkloadId(f"vm:{self._host}:{each.key}")
            if id_ in taken:  # two processes by one name: who was first is who is meant
                id_ = WorkloadId(f"{id_}#{each.process.pid}")
            taken.add(id_)
            yield Seen(self._sighting(id_, each), self._clock.now())

    def _sighting(self, id_: WorkloadId, machine: Machine) -> Sighting:
        words = machine.domain.words if machine.domain else ()
        return Sighting(
            id_,
            machine.name,
            WorkloadKind.VM,
            self._host,
            endpoints=tuple(self._endpoints(machine)),
            facts=Facts(runtime="libvirt" if machine.domain else "qemu", host_name=str(self._host), labels=words),
        )

    def _endpoints(self, machine: Machine) -> Iterator[Endpoint]:
        for tap, mac in sorted(machine.cards):
            if tap in self._taps:
                endpoint = self._taps[tap].endpoint
                yield msgspec.structs.replace(endpoint, mac=mac, addresses=self._learning.of(tap))

    # Listening

    def _listen(self, macs: dict[str, str]) -> None:
        for gone in [port for port in self._ears if self._macs.get(port) != macs.get(port)]:
            self._deafen(gone)
        self._learning.keep({port: mac for port, mac in self._macs.items() if macs.get(port) == mac})
        self._macs = macs
        for port in sorted(macs.keys() - self._ears.keys()):
            with contextlib.suppress(OSError):  # it is gone again, and so will the machine be
                self._ears[port] = listen(port)
                self._attend(port, self._ears[port])

    def _attend(self, port: str, ear: socket.socket) -> None:
        if self._ears.get(port) is ear:
            asyncio.get_running_loop().add_reader(ear, partial(self._hear, port))

    def _deafen(self, port: str) -> None:
        ear = self._ears.pop(port)
        asyncio.get_running_loop().remove_reader(ear)
        ear.close()

    def _hear(self, port: str) -> None:
        ear, loop = self._ears[port], asyncio.get_running_loop()
        for _ in range(BURST):
            try:
                claim = hear(ear)
            except BlockingIOError:
                return
            except OSError:  # the tap is down or gone: the next look says which
                self._moved.set()
                self._deafen(port)
                return
            if claim is not None:
                self._take(port, claim)
        loop.remove_reader(ear)
        loop.call_later(BREATH, self._attend, port, ear)

    def _take(self, port: str, claim: Claim) -> None:
        tap = self._taps.get(port)
        if tap is not None and self._learning.hear(port, self._macs[port], tap.subnets, claim):
            self._moved.set()


def _machine(process: Process, domain: Domain | None) -> Machine:
    """Put cards and taps together: by descriptor, by name, or, where there is one of each left, because it must be."""
    taps = dict(process.taps)
    cards: dict[str, str] = {}
    rest = []
    for card in process.told.cards:
        held = {taps[fd] for fd in card.fds if fd in taps} or {card.tap} & set(taps.values())
        if held:
            cards[min(held)] = card.mac
        else:
            rest.append(card)
    left = sorted(set(taps.values()) - cards.keys())
    if len(left) == len(rest) == 1:
        cards[left[0]] = rest[0].mac
        left = []
    return Machine(process, domain, tuple(sorted((cards | dict.fromkeys(left, "")).items())))


def _changes(before: Mapping[WorkloadId, Seen] | None, now: Mapping[WorkloadId, Seen]) -> Iterator[RuntimeEvent]:
    if before is None:
        yield Listed(tuple(now[each] for each in sorted(now)))
        return
    for gone in sorted(before.keys() - now.keys()):
        yield Gone(gone, max((each.at for each in now.values()), default=before[gone].at))
    for each in sorted(now):
        if each not in before or before[each].sighting != now[each].sighting:
            yield now[each]
