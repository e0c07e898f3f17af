"""The users who run containers without root, found by the ``conmon`` that watches over each of their containers.

A user's first container stirs that user's runtime folder (``/run/user/UID``), which costs nothing to wait for. Whoever
keeps it elsewhere is found when everything is listed again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from stockade.adapters.podman.asking import Account, PodmanSettings
from stockade.adapters.podman.stirring import Stirring

PROCESSES = Path("/proc")
OURSELVES = PROCESSES / "self"
RUNTIME_FOLDERS = Path("/run/user")
MONITOR = "conmon"


def accounts(processes: Path = PROCESSES, here: Path = OURSELVES) -> tuple[Account, ...]:
    """Return the users, root apart, who run a container now on the host of the process ``here``, by uid."""
    found: dict[int, Account] = {}
    own = _namespaces(here)
    for folder in processes.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                if account := _monitored_by(folder, own):
                    found.setdefault(account.uid, account)
    return tuple(found[uid] for uid in sorted(found))


def _monitored_by(folder: Path, own: tuple[str, str]) -> Account | None:
    """Return whose process this is, where it is a conmon of this host and not in somebody's container."""
    if (folder / "comm").read_text().strip() != MONITOR or _namespaces(folder) != own:
        return None
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    uid, gid = (int(status[key].split()[1]) for key in ("Uid", "Gid"))
    if uid == 0:
        return None
    told = dict(word.split("=", 1) for word in (folder / "environ").read_text().split("\0") if "=" in word)
    groups = tuple(sorted(int(each) for each in status.get("Groups", "").split()))
    return Account(uid, gid, groups, told.get("HOME", "/"), told.get("XDG_RUNTIME_DIR", ""))


def _namespaces(folder: Path) -> tuple[str, str]:
    return str((folder / "ns" / "pid").readlink()), str((folder / "ns" / "net").readlink())


class Users:
    """Tells, again and again, who runs containers; only as often as something stirs."""

    def __init__(
        self,
        settings: PodmanSettings,
        processes: Path = PROCESSES,
        here: Path = OURSELVES,
        runtime_folders: Path = RUNTIME_FOLDERS,
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._here = here
        self._folders = runtime_folders

    async def looks(self) -> AsyncIterator[tuple[Account, ...]]:
        """Yield who runs containers: at once, whenever something stirred, and now and then."""
        with Stirring() as stirring:
            while True:
                await asyncio.to_thread(self._watch, stirring)
                yield await asyncio.to_thread(accounts, self._processes, self._here)
                stirring.settle()
                if await stirring.within(self._settings.resync):
                    for seconds in self._settings.settling:
                        await asyncio.sleep(seconds)
                        await asyncio.to_thread(self._watch, stirring)
                        yield await asyncio.to_thread(accounts, self._processes, self._here)

    def _watch(self, stirring: Stirring) -> None:
        """Watch for a folder of a new user's, of Podman's in it, of a container's in that."""
        for folder in _stirred(self._folders):
            stirring.watch(folder)


def _stirred(runtime_folders: Path) -> Iterator[Path]:
    yield runtime_folders
    with contextlib.suppress(OSError):
        for user in runtime_folders.iterdir():
            yield user
            yield user / "containers"
            yield from (user / "containers").glob("*-containers")
