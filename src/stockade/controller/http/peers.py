"""Who is at the other end of the socket, and what they may do.

The kernel keeps a peer's user and groups as they were when it connected (``unix(7)``, SO_PEERCRED and
SO_PEERGROUPS). Nothing in a request can change them.
"""

import array
import os
import pwd
import socket
import struct
from typing import Any

import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from stockade.wire.api import Caller, Role

SO_PEERGROUPS = 59
"""Linux 4.13; the socket module does not name it."""
LARGEST_OPTION = 1024
"""Bytes that Python takes of a socket option: 256 groups. Who is in more is looked up."""

PEER = "peer"
"""Under this name the peer is in the state of each request's scope."""


class Peer(msgspec.Struct, frozen=True):
    """A peer as the kernel names it."""

    pid: int
    uid: int
    gids: frozenset[int]


class Access(msgspec.Struct, frozen=True):
    """Who may do what. Root and ``owner`` may apply; ``appliers`` and ``readers`` are group ids; nobody else."""

    owner: int
    appliers: frozenset[int] = frozenset()
    readers: frozenset[int] = frozenset()

    def role(self, peer: Peer) -> Role:
        """Return the most that a peer may do."""
        if peer.uid in (0, self.owner) or peer.gids & self.appliers:
            return Role.APPLY
        return Role.READ if peer.gids & self.readers else Role.NOBODY

    def caller(self, peer: Peer) -> Caller:
        """Return the peer with its name and role."""
        return Caller(name=user_name(peer.uid), uid=peer.uid, role=self.role(peer))


def user_name(uid: int) -> str:
    """Return the user's name, or ``uid N`` where the system knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def peer_of(connection: Any) -> Peer:
    """Ask the kernel who connected. ``connection`` is a Unix socket, or asyncio's view of one."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(pid, uid, frozenset((gid, *_groups(connection, uid, gid))))


def _groups(connection: Any, uid: int, gid: int) -> list[int]:
    """Return the peer's supplementary groups, from the user database where the kernel cannot say."""
    groups = array.array("I")
    try:
        groups.frombytes(connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, LARGEST_OPTION))
    except OSError:
        name = user_name(uid)
        return [] if name.startswith("uid ") else os.getgrouplist(name, gid)
    return groups.tolist()


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol that asks for the peer as soon as a connection is accepted."""

    def connection_made(self, transport: Any) -> None:
        """Take the peer's credentials before anything is read."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, PEER: peer_of(transport.get_extra_info("socket"))}
