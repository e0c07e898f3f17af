"""Devices that export flows, over the HTTP API. Times are seconds since the epoch (UTC)."""

import msgspec

from stockade.core.model.ids import Address


class ExporterView(msgspec.Struct, frozen=True):
    """A device without an agent that tells of flows, since this server's start.

    ``heard``: when last. ``lost``: records or datagrams that it sent and that did not arrive, by its own numbers;
    ``unread``: what arrived and could not be read. ``sampling``: of so many packets it looks at one, and what is stored
    is its counts times that. ``behind``: seconds that its clock is behind this server's, where that is more than half
    a second.
    """

    address: Address
    heard: float
    versions: tuple[str, ...] = ()
    datagrams: int = 0
    records: int = 0
    lost: int = 0
    unread: int = 0
    sampling: int = 1
    behind: float = 0.0
    flows: int = 0
    """What was made of its records."""
