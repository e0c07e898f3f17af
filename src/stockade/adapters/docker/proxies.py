"""The docker-proxy processes of this machine: the one place where it is written whether, and to where, a port is
forwarded by a process instead of by the kernel alone. The API does not tell. Reads ``/proc``, never signals anybody.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from stockade.core.model.ids import Address
from stockade.core.model.net import canonical_address

PROCESSES = Path("/proc")


class Proxy(msgspec.Struct, frozen=True):
    """One process that forwards a host port."""

    transport: str
    host_ip: str
    host_port: int
    to_address: Address
    to_port: int


def running(processes: Path = PROCESSES) -> dict[tuple[str, str, int], Proxy]:
    """Return every docker-proxy that runs, by (``tcp``, host address, host port)."""
    found = (parse(words) for words in _command_lines(processes))
    return {(proxy.transport, proxy.host_ip, proxy.host_port): proxy for proxy in found if proxy}


def parse(words: Iterable[str]) -> Proxy | None:
    """Read a command line; None where it is not that of a docker-proxy."""
    program, *rest = words
    if not program.rpartition("/")[2].endswith("docker-proxy"):
        return None
    options = {name.lstrip("-"): value for name, value in itertools.pairwise(rest) if name.startswith("-")}
    try:
        return Proxy(
            transport=options["proto"],
            host_ip=options["host-ip"],
            host_port=int(options["host-port"]),
            to_address=canonical_address(options["container-ip"]),
            to_port=int(options["container-port"]),
        )
    except (KeyError, ValueError):
        return None


def _command_lines(processes: Path) -> Iterator[list[str]]:
    for folder in processes.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if line := (folder / "cmdline").read_bytes():
                    yield line.decode(errors="replace").rstrip("\0").split("\0")
