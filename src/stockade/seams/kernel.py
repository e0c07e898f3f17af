"""The host's packet filter and connection tracking."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import Address


class Connection(msgspec.Struct, frozen=True):
    """One tracked connection, both tuples as the kernel keeps them. ``icmp`` is ``type * 256 + code`` (0 otherwise).

    ``midway``: the kernel did not see it begin, so which end is its source is a guess.
    """

    protocol: int
    source: Address
    destination: Address
    source_port: int
    destination_port: int
    reply_source: Address
    reply_destination: Address
    reply_source_port: int
    reply_destination_port: int
    icmp: int = 0
    mark: int = 0
    id: int = 0
    midway: bool = False


class Fill(msgspec.Struct, frozen=True):
    """Entries and their limit; ``lost``: how often, since the namespace began, an entry was refused or pushed out."""

    entries: int
    limit: int
    lost: int = 0


class KernelRefused(Exception):  # noqa: N818 - reads as what happened
    """The kernel did not take a transaction. Nothing of it is in force; what was there before still is."""


class Tracking(Protocol):
    """Connection tracking of one network namespace."""

    def connections(self, mark: int = 0, mask: int = 0) -> Iterable[Connection]:
        """Walk the tracked connections whose ``mark & mask == mark``."""
        ...

    def midway(self) -> Iterable[Connection]:
        """Walk the tracked connections that the kernel did not see begin."""
        ...

    def mark(self, connection: Connection, mark: int) -> bool:
        """Set a connection's mark; False where it is gone."""
        ...

    def end(self, connection: Connection) -> bool:
        """Delete one connection's entry; False where it is gone already."""
        ...

    def fill(self) -> Fill:
        """Return how full the table of tracked connections is."""
        ...

    def forget(self, addresses: Iterable[Address]) -> int:
        """Delete every entry that has one of these addresses at either end; return how many."""
        ...


class Kernel(Tracking, Protocol):
    """One host's kernel. Every method may raise ``OSError`` where the helper behind it is gone."""

    def observe(self) -> Ruleset:
        """Return our tables as they are now. Dynamic sets come without elements."""
        ...

    def commit(self, batch: str) -> None:
        """Carry out one transaction of nft commands, all or nothing. Raises ``KernelRefused``."""
        ...

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return (packets, bytes) by counter name, of the inet and bridge tables together."""
        ...

    def counter(self, name: str) -> int | None:
        """Return how many packets one counter of the tables counted, added up; None where there is none."""
        ...

    def generation(self) -> int:
        """Return the number of the ruleset: another one after every transaction, anybody's."""
        ...
