"""Serves the API on a Unix socket, whose file lets in no more than may do something."""

import asyncio
import grp
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import uvicorn

from stockade.controller.http.app import application
from stockade.controller.http.peers import Access, PeerProtocol
from stockade.controller.installation import Installation
from stockade.errors import StockadeError

BACKLOG = 128
MOST_CONNECTIONS = 512
GRACE = 2
"""Seconds for requests under way when the server stops."""


def access_for(appliers: Sequence[str] = (), readers: Sequence[str] = ()) -> Access:
    """Return who may do what, from group names. ``StockadeError`` where there is no such group."""
    return Access(os.geteuid(), frozenset(map(_group, appliers)), frozenset(map(_group, readers)))


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise StockadeError(
            f'there is no group "{name}"',
            kept="Nothing was started.",
            remedy=f"Make it (groupadd --system {name}), or name another.",
        ) from None


def bound_socket(path: Path, access: Access) -> socket.socket:
    """Return a socket bound at ``path``, for the owner and the groups of ``access`` alone.

    A file has one group. Where several groups may read or apply, all may connect, and the peer's role decides.
    """
    _clear(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
        finally:
            os.umask(before)
        _let_in(path, sorted(access.appliers | access.readers))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as problem:
        bound.close()
        raise _unbound(path, problem) from problem
    return bound


def _let_in(path: Path, groups: Sequence[int]) -> None:
    if len(groups) == 1:
        os.chown(path, -1, groups[0])
        path.chmod(0o660)
    elif groups:
        path.chmod(0o666)


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens at; refuse where somebody does, or where it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as problem:
        raise _unbound(path, problem) from problem
    if not stat.S_ISSOCK(mode):
        raise _unbound(path, FileExistsError(f"{path} is there and is no socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as problem:
            raise _unbound(path, problem) from problem
    raise StockadeError(
        f"Stockade runs already: somebody answers at {path}",
        kept="The one that runs was not disturbed.",
        remedy="Use that one (stockade status), end it, or give another --socket and --state.",
    )


def _unbound(path: Path, problem: OSError) -> StockadeError:
    return StockadeError(
        f"cannot listen at {path}: {problem.strerror or problem}",
        kept="Nothing was started.",
        remedy="Check the folder of the socket, or give another place with --socket (at most 107 bytes long).",
    )


@asynccontextmanager
async def serving(installation: Installation, path: Path, access: Access) -> AsyncIterator[None]:
    """Serve at ``path`` while the block runs; then end every stream and remove the socket."""
    bound = bound_socket(path, access)
    server = QuietServer(
        uvicorn.Config(
            application(installation, access),
            http=PeerProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await started(server, task)
        yield
    finally:
        installation.controller.closing.set()
        installation.controller.changed.ring()
        server.should_exit = True
        await task
        with suppress(OSError):
            path.unlink()


async def started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    """Wait until a server serves; raise what kept it from it."""
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    if task.done():
        task.result()


class QuietServer(uvicorn.Server):
    """A server that leaves signals to the process that it runs in."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
