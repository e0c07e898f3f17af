"""What the kernel tells of connections: how they were decided, and what they carried when they ended."""

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
