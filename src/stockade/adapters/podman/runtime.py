"""``Runtime`` over Podman: root's, and that of each user who runs containers; each is followed, and begun anew."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from stockade.adapters.podman.asking import ROOT, Account, Asking, PodmanLost, PodmanSettings
from stockade.adapters.podman.outbox import Outbox
from stockade.adapters.podman.sight import Site
from stockade.adapters.podman.store import Store
from stockade.adapters.podman.users import OURSELVES, PROCESSES, RUNTIME_FOLDERS, Users
from stockade.core.model.ids import HostId, WorkloadId
from stockade.seams.clock import Clock
from stockade.seams.places import Places
from stockade.seams.runtime import RuntimeEvent, Seen

THREADS = 4
"""For what blocks: entering a network namespace."""


class PodmanRuntime:
    """The containers of one machine's Podman, root's and users'.

    ``places`` runs in a thread. ``jitter`` returns a number in [0, 1). ``here`` is a process of the host, whose users
    are looked for.
    """

    name = "podman"

    def __init__(
        self,
        host: HostId,
        *,
        places: Places,
        clock: Clock,
        jitter: Callable[[], float],
        host_name: str = "",
        host_workload: WorkloadId | None = None,
        settings: PodmanSettings = PodmanSettings(),  # noqa: B008 - frozen
        processes: Path = PROCESSES,
        here: Path = OURSELVES,
        runtime_folders: Path = RUNTIME_FOLDERS,
    ) -> None:
        self._site = Site(host, host_name or host, host_workload or WorkloadId(f"host:{host}"))
        self._places = places
        self._clock = clock
        self._jitter = jitter
        self._settings = settings
        self._processes = processes
        self._users = Users(settings, processes, here, runtime_folders)

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield ``Listed`` first (or ``Lost``, until Podman answers), then changes, for ever.

        Closing the iterator ends everything it started.
        """
        outbox = Outbox()
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="podman")
        follower = asyncio.create_task(self._follow(outbox, threads))
        try:
            while True:
                yield await _next(outbox, follower)
        finally:
            follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follower
            threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, outbox: Outbox, threads: Executor) -> None:
        """Follow root's Podman throughout, and each user's for as long as there is something to tell of it."""
        followed: dict[int, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            async for accounts in self._users.looks():
                fresh = [each for each in (ROOT, *accounts) if each.uid not in followed]
                if not followed:
                    outbox.expect(each.uid for each in fresh)
                for account in fresh:
                    followed[account.uid] = group.create_task(self._follow_one(account, outbox, threads))
                for uid in followed.keys() - {0, *(each.uid for each in accounts)}:
                    if outbox.done(uid):
                        followed.pop(uid).cancel()
                        outbox.left(uid)

    async def _follow_one(self, account: Account, outbox: Outbox, threads: Executor) -> None:
        failures = 0
        hearer = _Hearer(account.uid, outbox)
        while True:
            store = self._store(account, hearer, threads)
            try:
                await store.run()
            except PodmanLost as problem:
                failures = 0 if store.listed else failures
                outbox.lost(account.uid, str(problem))
            await asyncio.sleep(self._delay(failures))
            failures += 1

    def _store(self, account: Account, hearer: "_Hearer", threads: Executor) -> Store:
        site = Site(self._site.host, self._site.name, self._site.workload, account.uid)
        return Store(
            Asking(account, self._settings),
            site,
            hearer,
            clock=self._clock,
            places=self._places,
            threads=threads,
            settings=self._settings,
            processes=self._processes,
        )

    def _delay(self, failures: int) -> float:
        """Double with each failure up to a bound, and scatter, so that many hosts do not come back as one."""
        settings = self._settings
        whole: float = min(settings.last_retry, settings.first_retry * 2.0 ** min(failures, 16))
        return whole * (0.5 + self._jitter() / 2)


class _Hearer:
    """Hears for one user."""

    def __init__(self, uid: int, outbox: Outbox) -> None:
        self._uid = uid
        self._outbox = outbox

    def seen(self, seen: Seen) -> None:
        self._outbox.seen(self._uid, seen)

    def gone(self, workload: WorkloadId, at: float) -> None:
        self._outbox.gone(self._uid, workload, at)

    def listed(self, seen: Iterable[Seen]) -> None:
        self._outbox.listed(self._uid, seen)


async def _next(outbox: Outbox, follower: "asyncio.Task[None]") -> RuntimeEvent:
    """Return the next event; what ends the follower (a mistake of ours) ends this too, instead of silence."""
    taking = asyncio.ensure_future(outbox.take())
    try:
        await asyncio.wait({taking, follower}, return_when=asyncio.FIRST_COMPLETED)
        if follower.done() and not taking.done():
            follower.result()
        return await taking
    finally:
        taking.cancel()
