"""The demo's console, for a browser of this machine: what is said at a port of it is carried into the lab's host.

The lab's host is a network of its own, and its loopback is not this machine's. The port listens on this machine's
loopback alone; it is taken before the demo enters any namespace, since a socket stays where it was made.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from stockade.web.listening import Unbound, bound_console, origin
from stockade.within import within

INHERITED = "STOCKADE_DEMO_CONSOLE"
"""The descriptor of the port, where this process was started again to be able to build a lab."""
PIECE = 65536


def taken(setting: str = "127.0.0.1") -> socket.socket | None:
    """Listen for browsers, or go on listening where this process was started again; None where that is refused."""
    if (number := os.environ.pop(INHERITED, "")).isdigit():
        with contextlib.suppress(OSError):
            return socket.socket(fileno=int(number))
    try:
        return bound_console(setting)
    except Unbound:
        return None


def bequeath(bound: socket.socket | None) -> None:
    """Have the port outlive the start of another program in this process."""
    if bound is not None:
        os.set_inheritable(bound.fileno(), True)
        os.environ[INHERITED] = str(bound.fileno())


def outside_link(link: str, bound: socket.socket) -> str:
    """Return a link into the lab's console as a browser of this machine must ask for it."""
    return urlunsplit(urlsplit(link)._replace(netloc=urlsplit(origin(bound)).netloc))


@asynccontextmanager
async def carried(bound: socket.socket, namespace: str, link: str) -> AsyncIterator[None]:
    """Carry what is said at the port to the console that a link of the lab's leads to, while the block runs."""
    inside = urlsplit(link)
    address = (inside.hostname or "127.0.0.1", inside.port or 80)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.to_thread(_connected, namespace, address)
        except OSError:
            writer.close()
            return
        answer, question = await asyncio.open_connection(sock=there)
        await asyncio.gather(_pour(reader, question), _pour(answer, writer))

    os.set_inheritable(bound.fileno(), False)
    bound.setblocking(False)
    server = await asyncio.start_server(carry, sock=bound)
    try:
        yield
    finally:
        server.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


def _connected(namespace: str, address: tuple[str, int]) -> socket.socket:
    """Connect from within a network namespace."""
    there = within(namespace, lambda: socket.create_connection(address, 10))
    there.setblocking(False)
    return there
