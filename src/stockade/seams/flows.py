"""What the kernel tells of connections: how they were decided, what they carried when they ended, who holds them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Decision(NamedTuple):
    """One packet about which a rule of ours decided, in the order in which the kernel met them.

    Addresses are packed. ``port`` is the destination's (ICMP: ``type * 256 + code``). ``nonce`` tells a connection from
    others with the same ends and port: the source port and, for TCP, the sequence number; for ICMP its identifier.
    ``length`` is the IP packet's, in bytes.
    """

    prefix: bytes
    protocol: int
    source: bytes
    destination: bytes
    port: int
    nonce: bytes
    length: int


class Ended(NamedTuple):
    """A tracked connection that is over. Addresses are packed; ``destination`` is where it really led.

    ``opened_to`` and ``opened_port`` are what its first packet named; they differ where its destination was translated.
    Packets and bytes are of the IP layer, as the kernel accounted for them; ``seconds`` is how long it lived, 0 where
    the kernel does not tell.
    """

    protocol: int
    source: bytes
    destination: bytes
    port: int
    opened_to: bytes
    opened_port: int
    mark: int
    packets: int
    bytes_out: int
    bytes_in: int
    seconds: float


class Heard(NamedTuple):
    """What was read in one go."""

    decisions: list[Decision]
    ended: list[Ended]
    answers: list[bytes] = []  # noqa: RUF012 - never written to
    """IP packets in which resolvers answer whoever asked them, as far as they were kept."""


class FlowSource(Protocol):
    """Tells of the connections of one network namespace. ``OSError`` where the kernel cannot be heard."""

    def read(self, patience: float) -> Heard:
        """Return what has come, as soon as something has, or after ``patience`` seconds. Blocks; for one thread."""
        ...

    def losses(self) -> tuple[tuple[str, str, int], ...]:
        """Return what the kernel had to leave out since this began: (where, what, how many)."""
        ...

    def close(self) -> None:
        """Hear no more."""
        ...


class LocalSocket(NamedTuple):
    """One connection at an end that is on this host. Addresses are packed, ``peer`` is the other end's.

    ``place`` is the host's link behind which the end is, empty where it is the host itself. ``serves``: the connection
    comes to this end.
    """

    place: str
    protocol: int
    address: bytes
    port: int
    peer: bytes
    peer_port: int
    serves: bool


class Programs(Protocol):
    """Tells which programs hold sockets, as far as a bounded effort goes. For one thread at a time."""

    def look(self, sockets: Sequence[LocalSocket]) -> Sequence[str]:
        """Return a program for each, with its unit or container; empty where it is not known, or was not looked for."""
        ...

    @property
    def unlooked(self) -> int:
        """How many were not looked for since this began, because it would have taken too long."""
        ...
