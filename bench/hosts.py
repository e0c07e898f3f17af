"""A lab's host as a benchmark programs it: its kernel, as an agent holds it, and sockets in any of its nodes."""

import contextlib
import logging
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.adapters.netlink.namespace import Namespace
from stockade.adapters.nft import NftKernel
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.reconcile import steps, text
from stockade.logs import log_to
from stockade.testing.lab import Lab, enter

ROOM = 1 << 24
SO_RCVBUFFORCE = 33


def in_a_lab() -> None:
    """Make this process able to build labs, and let what runs in them log only what is wrong."""
    enter()
    log_to(level=logging.WARNING)


@contextlib.contextmanager
def host_kernel(lab: Lab) -> Iterator[NftKernel]:
    """Hold the kernel of a lab's host while the block lasts; its helper ends with it, whatever happens."""
    netns = lab.netns(lab.host_name)
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        tracking = Conntrack(netns)
        kernel = NftKernel(Path(folder) / "nft.sock", tracking, netns=netns)
        try:
            yield kernel
        finally:
            with contextlib.suppress(OSError):
                kernel.helper.release()
            tracking.close()


def bring_about(kernel: NftKernel, desired: Ruleset) -> None:
    """Have the kernel hold this and nothing else of ours."""
    for step in steps(desired, kernel.observe()):
        kernel.commit(text(step))


def socket_at(netns: str | Path, family: int, kind: socket.SocketKind) -> socket.socket:
    """Return a socket of a network namespace (its file). ``family`` is 4 or 6."""
    domain = socket.AF_INET6 if family == 6 else socket.AF_INET
    with Namespace.at(netns) as there:
        return there.call(lambda: socket.socket(domain, kind))


def widened(found: socket.socket) -> socket.socket:
    """Give a socket room for everything that may arrive before it is read."""
    try:
        found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    except OSError:  # only root of the machine may pass net.core.rmem_max by
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
    return found
