"""A source of workloads: a container engine, the kernel's links, a lab."""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Published, Sighting


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """A workload as the source knows it now. ``at``: when the source says it happened; seconds since the epoch.

    ``marks`` tell, whoever reports, that two sources speak of the same: ``netns:COOKIE`` (the network namespace that
    is its own; the kernel gives no cookie twice), ``container:ID``. The ports of its endpoints are marks too. What
    shares a namespace with its ``owner``, or with the host, does not bear the namespace's mark.
    """

    sighting: Sighting
    at: float
    published: tuple[Published, ...] = ()
    marks: tuple[str, ...] = ()


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """A workload is no more."""

    id: WorkloadId
    at: float


class Listed(msgspec.Struct, frozen=True, tag="listed"):
    """Everything the source knows, after (re)connecting: what is not in it is gone."""

    seen: tuple[Seen, ...]


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """The source cannot be reached. What it last said stays true until it lists again."""

    reason: str


RuntimeEvent = Seen | Gone | Listed | Lost


class Runtime(Protocol):
    """One source. ``events`` never ends: it reconnects with back-off, says ``Lost`` and then ``Listed``."""

    name: str

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield ``Listed`` first, then changes; no change is missed between the two."""
        ...
