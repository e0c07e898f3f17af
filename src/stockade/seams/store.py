"""Where the controller keeps what must outlive it: events, policy versions, the audit log.

There is one way to write, ``Store.commit``, and it is all or nothing: an event, the revision it makes, the version it
activates and the audit entry that says who did it are stored together or not at all. Every method may raise
``StoreFailed`` that says what was kept.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from stockade.core.model.event import Event
from stockade.core.model.finding import Waiver
from stockade.core.model.ids import FindingId, HostId, Revision, Version, WorkloadId
from stockade.core.model.policy import PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.errors import StockadeError
from stockade.wire import BirthRecord


class StoreFailed(StockadeError):  # noqa: N818 - reads as what happened
    """The store could not do what was asked, and is as it was before."""


class Conflict(StoreFailed):
    """Somebody else wrote in between: the store is ahead of what the writer knew."""


class SourceFile(msgspec.Struct, frozen=True, order=True):
    """A policy file as its author wrote it."""

    name: str
    text: str


class StoredVersion(msgspec.Struct, frozen=True):
    """One immutable policy version. ``policy`` is complete (built-ins included) and is what is in force with it.

    ``files`` are the sources, ``canonical`` the text of every document, ``hash`` its content hash; ``restores`` names
    the version whose content it brought back.
    """

    number: Version
    author: str
    note: str
    at: float
    hash: str
    policy: PolicySet
    files: tuple[SourceFile, ...] = ()
    canonical: str = ""
    restores: Version | None = None


class Unconfirmed(msgspec.Struct, frozen=True):
    """A version that must be confirmed until ``deadline`` (seconds since the epoch), or ``returns_to`` is restored."""

    version: Version
    returns_to: Version
    deadline: float


class Entry(msgspec.Struct, frozen=True):
    """An audit entry before it has a number."""

    who: str
    action: str
    target: str = ""
    outcome: str = "done"
    detail: str = ""
    uid: int | None = None


class NumberedEntry(msgspec.Struct, frozen=True):
    """An audit entry as stored; numbers grow by one and are never used again."""

    number: int
    at: float
    entry: Entry


class RevisedEvent(msgspec.Struct, frozen=True):
    """An event with the revision that it made."""

    revision: Revision
    at: float
    event: Event


class Birth(msgspec.Struct, frozen=True):
    """A birth record and the host that took it. Stored again under the same workload, it replaces the earlier one."""

    host: HostId
    record: BirthRecord


class Realised(msgspec.Struct, frozen=True):
    """What a host last said is in force there; None: nothing yet. ``error``: why what it should enforce now is not."""

    host: HostId
    at: float
    version: Version | None = None
    revision: Revision | None = None
    fingerprint: str = ""
    error: str = ""


class Commit(msgspec.Struct, frozen=True):
    """Everything that one step stores.

    ``generation`` is the last report taken of a host. ``unconfirmed`` sets what waits for confirmation, ``confirmed``
    clears it. ``accepted`` are findings that somebody accepts, in place of what was said of them before; ``reopened``
    are those that nobody does any more.
    """

    events: tuple[Event, ...] = ()
    generation: tuple[HostId, int] | None = None
    version: StoredVersion | None = None
    unconfirmed: Unconfirmed | None = None
    confirmed: bool = False
    audit: tuple[Entry, ...] = ()
    births: tuple[Birth, ...] = ()
    realised: tuple[Realised, ...] = ()
    accepted: tuple[Waiver, ...] = ()
    reopened: tuple[FindingId, ...] = ()

    @property
    def retold(self) -> bool:
        """Whether hosts would tell all of it again, were it lost: nothing in it is anybody's decision."""
        return self.version is None and self.unconfirmed is None and not self.confirmed and not self.audit


class Loaded(msgspec.Struct, frozen=True):
    """Where a new controller starts: ``events`` folded onto ``snapshot`` are the present."""

    snapshot: Snapshot
    events: tuple[RevisedEvent, ...]
    generations: Mapping[HostId, int]
    realised: tuple[Realised, ...]
    unconfirmed: Unconfirmed | None = None
    accepted: tuple[Waiver, ...] = ()


class Store(Protocol):
    """What was stored, and the one way to add to it."""

    def load(self) -> Loaded:
        """Return the last checkpoint (or the empty snapshot) and every event after it."""
        ...

    def commit(self, commit: Commit, *, after: Revision, at: float) -> Revision:
        """Store all of it or nothing. Return the revision of the last event stored.

        It outlives this process at once, and a power cut unless it is ``retold``: then a power cut may take the last
        moments of it, in order, so that what is left is what was once.

        ``after`` is the revision that the writer builds upon: ``Conflict`` where the store is elsewhere. Events get
        the revisions that follow it. ``at``: now, in seconds since the epoch.
        """
        ...

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Store a snapshot, so that a later ``load`` replays only what came after it."""
        ...

    def events(self, since: Revision, limit: int) -> tuple[RevisedEvent, ...]:
        """Return events after ``since``, oldest first. ``StockadeError`` where they are no longer kept."""
        ...

    def version(self, number: Version) -> StoredVersion | None:
        """Return one version; None where there is none of that number."""
        ...

    def versions(self, limit: int) -> tuple[StoredVersion, ...]:
        """Return the newest versions, newest first."""
        ...

    def audit(self, last: int, before: int | None = None) -> tuple[NumberedEntry, ...]:
        """Return the newest entries (of those numbered below ``before``), newest first."""
        ...

    def births(self, last: int, workload: WorkloadId | None = None) -> tuple[Birth, ...]:
        """Return the newest birth records, newest first."""
        ...

    def secret(self) -> bytes:
        """Return the installation's own 32 random bytes, made when first asked for; the same ever after."""
        ...

    def close(self) -> None:
        """Let go of it. Nothing is left to be written."""
        ...
