"""Inventory and policy as they were: events folded up to a time, as far as they are kept. Blocks; reads only."""

import msgspec

from stockade.core.fold import Folding
from stockade.core.model.ids import Revision, Version
from stockade.core.model.snapshot import Snapshot
from stockade.seams.store import Store, StoredVersion, StoreFailed

STEP = 5_000
"""Events that are read at once."""
MOST = 50_000
"""Events that are folded for one question: more take seconds."""


class Earlier(msgspec.Struct, frozen=True):
    """A snapshot, and what of it is not of the time asked for. Empty: all of it is."""

    snapshot: Snapshot
    but: str = ""


def snapshot_at(store: Store, now: Snapshot, at: float) -> Earlier:
    """Return what was so at a time, in seconds since the epoch; where that is not known, the policy of then alone."""
    try:
        last = store.events(Revision(now.revision - 1), 1) if now.revision else ()
        if not last or last[0].at <= at:
            return Earlier(now)
        if now.revision <= MOST:
            return Earlier(_folded(store, at))
    except StoreFailed:
        pass  # the first events are not kept any more
    version = _version_at(store, now.version, at)
    policy = now.policy if version is None else version.policy
    number = now.version if version is None else version.number
    return Earlier(
        now._replace(policy=policy, version=number),
        "workloads and their labels are those of now: too many changes lie between to go back over them",
    )


def _folded(store: Store, at: float) -> Snapshot:
    folding = Folding()
    while found := store.events(folding.snapshot.revision, STEP):
        for each in found:
            if each.at > at:
                return folding.snapshot
            folding.apply(each.event)
    return folding.snapshot


def _version_at(store: Store, newest: Version, at: float) -> StoredVersion | None:
    """Return the version that was active at a time; None where the first is younger."""
    for number in range(newest, -1, -1):
        found = store.version(Version(number))
        if found is not None and found.at <= at:
            return found
    return None
