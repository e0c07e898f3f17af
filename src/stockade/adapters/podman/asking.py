"""``podman`` run as the user whose containers it is asked about: one program for each question, every wait bounded.

All that goes wrong ends as ``PodmanLost`` (``Late`` where it took too long); no error of the system leaves this
module. What was started ends with the question, and with us.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

SBIN = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_LINE = 16 << 20
_SAID = 4096
_PIECE = 1 << 16


class PodmanSettings(msgspec.Struct, frozen=True):
    """Bounds, in seconds unless they are counts or bytes."""

    answer: float = 10.0
    """How long one question may take. A container that is being started is told of only when it has been."""
    resync: float = 60.0
    """How often everything is listed again, in case an event was lost."""
    overlap: float = 5.0
    """How far back the events begin, so that nothing falls between them and the first listing."""
    patience: float = 1.0
    """How long to wait before asking again about a container that was not told of."""
    first_retry: float = 0.2
    last_retry: float = 15.0
    questions: int = 4
    """How many questions are asked of one user's Podman at the same moment."""
    batch: int = 16
    """About how many containers one question may be."""
    largest_answer: int = 256 << 20
    settling: tuple[float, ...] = (0.2, 1.0, 3.0)
    """When to look for a user's first container after something stirred in the user's runtime folder."""
    enter: tuple[str, ...] = ()
    """Words before each command, for a Podman in other namespaces than ours."""


class PodmanLost(Exception):  # noqa: N818 - reads as what happened
    """Podman cannot be asked, or says what we do not understand; the message is for a user."""


class Late(PodmanLost):
    """No answer in time."""


class Account(msgspec.Struct, frozen=True, order=True):
    """Whose Podman it is, and where that user's Podman keeps what it knows."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"
    runtime_folder: str = ""

    @property
    def owner(self) -> str:
        """How a message names it."""
        return "Podman" if self.uid == 0 else f"the Podman of user {self.uid}"


ROOT = Account()


class Answer(msgspec.Struct, frozen=True):
    """What a question came to: what was printed, and what was complained of (empty: nothing)."""

    printed: bytes
    complaint: str = ""


class Talk(NamedTuple):
    """A ``podman`` that goes on talking: its process, and its lines."""

    pid: int
    lines: AsyncIterator[bytes]


class Asking:
    """One user's ``podman``."""

    def __init__(self, account: Account, settings: PodmanSettings) -> None:
        self.account = account
        self._settings = settings

    async def ask(self, *words: str) -> Answer:
        """Return what ``podman`` printed. ``Late`` where it took too long."""
        process = await self._start(*words)
        try:
            async with asyncio.timeout(self._settings.answer):
                printed, said = await asyncio.gather(self._whole(process.stdout), _tail(process.stderr))
                await process.wait()
        except TimeoutError as problem:
            raise Late(f"{self.account.owner} did not answer `{words[0]}` in {self._settings.answer:g} s") from problem
        finally:
            await _end(process)
        return Answer(printed, _last_line(said) if process.returncode else "")

    async def _whole(self, stream: asyncio.StreamReader | None) -> bytes:
        found = bytearray()
        while stream is not None and (piece := await stream.read(_PIECE)):
            found += piece
            if len(found) > self._settings.largest_answer:
                raise PodmanLost(f"{self.account.owner} printed more than it should")
        return bytes(found)

    @contextlib.asynccontextmanager
    async def lines(self, *words: str) -> AsyncIterator[Talk]:
        """Start a ``podman`` that does not end; yield its lines as they come."""
        process = await self._start(*words)
        try:
            yield Talk(process.pid, self._lines(process, words[0]))
        finally:
            await _end(process)

    async def _lines(self, process: asyncio.subprocess.Process, word: str) -> AsyncIterator[bytes]:
        complaining = asyncio.create_task(_tail(process.stderr))
        try:
            while process.stdout is not None and (line := await process.stdout.readline()):
                yield line
            said = _last_line(await complaining)
        except ValueError as problem:
            raise PodmanLost(f"{self.account.owner} sent an event larger than any that it should send") from problem
        finally:
            complaining.cancel()
        raise PodmanLost(f"{self.account.owner} stopped telling its {word}{': ' if said else ''}{said}")

    async def _start(self, *words: str) -> asyncio.subprocess.Process:
        account = self.account
        ids = () if account.uid == 0 else _identity(account)
        # Our death is its death, whatever ours is; it would listen on in vain.
        command = (*self._settings.enter, "setpriv", "--pdeathsig", "KILL", *ids, *_in_turn(), "podman", *words)
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd="/",
                env=_environment(account),
                start_new_session=True,
                limit=_LINE,
            )
        except OSError as problem:
            raise PodmanLost(f"{command[0]} cannot be run: {problem.strerror or problem}") from problem


def program() -> str:
    """Return where ``podman`` is; empty where it is not installed."""
    return shutil.which("podman", path=SBIN) or ""


def _in_turn() -> tuple[str, ...]:
    """Words by which a command does not go before others, though we do: it takes far more of a processor."""
    ahead = os.getpriority(os.PRIO_PROCESS, 0)
    return ("nice", "-n", str(-ahead)) if ahead < 0 else ()


def _identity(account: Account) -> tuple[str, ...]:
    groups = f"--groups={','.join(map(str, account.groups))}" if account.groups else "--clear-groups"
    return f"--reuid={account.uid}", f"--regid={account.gid}", groups, "--inh-caps=-all"


def _environment(account: Account) -> dict[str, str]:
    """What Podman goes by, and nothing of ours."""
    found = {"PATH": SBIN, "HOME": account.home, "LC_ALL": "C"}
    return found | ({"XDG_RUNTIME_DIR": account.runtime_folder} if account.runtime_folder else {})


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it, and the second process that a user's ``podman`` works in."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _tail(stream: asyncio.StreamReader | None) -> bytes:
    tail = b""
    while stream is not None and (piece := await stream.read(_SAID)):
        tail = (tail + piece)[-_SAID:]
    return tail


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says no reason"
