"""Probes between network namespaces that somebody else made: containers, a container engine's host.

async with Posts(address) as posts:
    await posts.man("web", Path("/proc/4242/ns/net"))
    results = await posts.probe([Probe("web", "api", Protocol.TCP, 8080)])
"""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from stockade.testing.lab.namespaces import Namespace, Namespaces
from stockade.testing.lab.probing import PATIENCE, Addresses, Prober
from stockade.testing.probe.values import Flow, Heard, Probe, Result


class Posts:
    """A probe server in each namespace that is named. ``address`` finds an address of a post, by name and family."""

    def __init__(self, address: Addresses) -> None:
        self._namespaces = Namespaces()
        self._ends: dict[str, Namespace] = {}
        self._prober = Prober(self._ends, address)

    async def __aenter__(self) -> Self:
        await self._namespaces.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._namespaces.close()

    async def man(self, name: str, netns: Path, *, host: bool = False) -> None:
        """Put a server into a namespace; a post of that name that was elsewhere is left.

        ``host``: the namespace is where packets are filtered, and only what came through counts as arrived.
        """
        await self.leave(name)
        self._ends[name] = await self._namespaces.birth(name, host=host, within=netns)

    async def leave(self, name: str) -> None:
        """End a post."""
        if end := self._ends.pop(name, None):
            await end.close()
            self._prober.forget(name)

    async def probe(self, probes: Iterable[Probe], *, patience: float = PATIENCE, listen: bool = True) -> list[Result]:
        """Try all of these at once; return their results in the same order. ``listen`` opens the ports probed."""
        return await self._prober.probe(probes, patience=patience, listen=listen)

    async def listen(self, name: str, ports: Iterable[tuple[int, int, str]]) -> None:
        """Listen, at a post, on (protocol, port, address; empty: all)."""
        await self._prober.listen(name, ports)

    async def open(self, probes: Iterable[Probe], *, listen: bool = True) -> list[Flow]:
        """Open connections and keep them."""
        return await self._prober.open(probes, listen=listen)

    async def send(self, flows: Iterable[Flow], *, back: bool = False) -> list[Heard]:
        """Ask along each flow whether it still carries packets."""
        return await self._prober.send(flows, back=back)
