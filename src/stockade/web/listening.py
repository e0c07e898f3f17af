"""Serves the console over TCP, on the loopback alone: it has no TLS, and nothing of it leaves the machine."""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from stockade.controller.http.server import BACKLOG, GRACE, QuietServer, started
from stockade.controller.installation import Installation
from stockade.errors import StockadeError
from stockade.web.app import application

OFF = "off"
USUAL_PORT = 7472
MOST_CONNECTIONS = 256


class Unbound(StockadeError):  # noqa: N818 - reads as what happened
    """The machine does not let the console listen there. All else works without it."""

    def __init__(self, where: str, problem: OSError) -> None:
        super().__init__(
            f"there is no web console: cannot listen at {where}: {problem.strerror or problem}",
            kept="All else works.",
            remedy="Set `console` (or STOCKADE_CONSOLE) to an address and a port that are free, or to off.",
        )
        self.number = problem.errno


def bound_console(setting: str) -> socket.socket | None:
    """Return a socket that listens as the setting says: ``off``, an address, or an address and a port.

    Without a port it is the usual one, or any other where that is taken. ``Unbound`` where the machine refuses;
    ``StockadeError`` where the setting is none.
    """
    if setting.strip().lower() in {OFF, ""}:
        return None
    address, port = _parsed(setting)
    if port is not None:
        return _bound(address, port)
    try:
        return _bound(address, USUAL_PORT)
    except Unbound as problem:
        if problem.number != errno.EADDRINUSE:
            raise
        return _bound(address, 0)


def origin(bound: socket.socket) -> str:
    """Return the address to type into a browser."""
    address, port = bound.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


@asynccontextmanager
async def serving_console(installation: Installation, bound: socket.socket | None) -> AsyncIterator[None]:
    """Serve while the block runs, where there is a console; then end every stream."""
    if bound is None:
        yield
        return
    over = asyncio.Event()
    server = QuietServer(
        uvicorn.Config(
            application(installation, over),
            http="h11",
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
        over.set()
        installation.controller.changed.ring()
        server.should_exit = True
        await task
        bound.close()


def _parsed(setting: str) -> tuple[str, int | None]:
    text = setting.strip()
    host, colon, port = ("", "", "") if text.count(":") > 1 and not text.startswith("[") else text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.strip("[]")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host in {"localhost", ""} else host)
        number = int(port) if port else None
    except ValueError:
        raise _bad(setting, "it is not an address with a port, as 127.0.0.1:7472, nor off") from None
    if not address.is_loopback:
        raise _bad(setting, "the console has no TLS and so listens on the loopback alone")
    if number is not None and not 0 <= number < 65536:
        raise _bad(setting, "there is no such port")
    return str(address), number


def _bound(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as problem:
        made.close()
        raise Unbound(f"{address}:{port}", problem) from problem
    return made


def _bad(setting: str, why: str) -> StockadeError:
    return StockadeError(
        f"the web console cannot listen at {setting}: {why}",
        kept="Nothing was started.",
        remedy="Set `console` (or STOCKADE_CONSOLE) to 127.0.0.1, to an address and a port, or to off. "
        "From another machine: ssh -L 7472:127.0.0.1:7472 HOST",
    )
