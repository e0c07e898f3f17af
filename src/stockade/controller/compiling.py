"""Keeps the newest snapshot compiled: what changed is compiled again, the rest is taken over.

Promises what ``compile_snapshot`` would give, whatever the steps in between; after a failure it starts from nothing.
"""

from collections.abc import Collection

import msgspec

from stockade.core.compile.compiler import Compiler, compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.snapshot import Snapshot


class Compiling:
    """Callable: (snapshot, workloads and hosts that changed since the last call) → every host's intent."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._compiler: Compiler | None = None
        self._intents: dict[HostId, Intent] = {}

    def __call__(
        self, snapshot: Snapshot, workloads: Collection[WorkloadId], hosts: Collection[HostId]
    ) -> dict[HostId, Intent]:
        """Compile. One call at a time."""
        compiler, self._compiler = self._compiler, None
        if compiler is None:
            compiler = Compiler(snapshot, self._key)
            self._intents = compiler.intents()
        else:
            self._follow(compiler, snapshot, compiler.update(snapshot, workloads, hosts))
        self._compiler = compiler
        return self._intents

    def _follow(self, compiler: Compiler, snapshot: Snapshot, moved: Collection[HostId]) -> None:
        """Put in the intents that moved; the others only learn which snapshot they are of."""
        self._intents = {
            host: compiler.intent(host)
            if host in moved or host not in self._intents
            else msgspec.structs.replace(self._intents[host], revision=snapshot.revision, version=snapshot.version)
            for host in sorted(snapshot.hosts)
        }


def check(snapshot: Snapshot) -> None:
    """Compile and render everything, to see that it can be. Raises ``StockadeError`` where it cannot."""
    for intent in compile_snapshot(snapshot).values():
        render(intent)
