"""What the stores hold, together, as it waits to be taken: never more than one event a container."""

from collections.abc import Iterable

from stockade.core.model.ids import WorkloadId
from stockade.seams import following
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen


class Outbox:
    """The first event is ``Listed``, once root's Podman and every user's that was found have answered."""

    def __init__(self) -> None:
        self._held: dict[int, dict[WorkloadId, Seen]] = {}
        self._lost: dict[int, str] = {}
        self._expected: set[int] = {0}
        self._whole = False
        self._out = following.Outbox()

    def expect(self, uids: Iterable[int]) -> None:
        """These are waited for, before anything is said."""
        self._expected.update(uids)

    def seen(self, uid: int, seen: Seen) -> None:
        """A container of a user's is so now."""
        self._held.setdefault(uid, {})[seen.sighting.id] = seen
        self._put(seen)

    def gone(self, uid: int, workload: WorkloadId, at: float) -> None:
        """A container of a user's is no more."""
        self._held.get(uid, {}).pop(workload, None)
        self._put(Gone(workload, at))

    def listed(self, uid: int, seen: Iterable[Seen]) -> None:
        """These are all of a user's."""
        self._held[uid] = {each.sighting.id: each for each in seen}
        self._lost.pop(uid, None)
        self._answered(uid)

    def lost(self, uid: int, reason: str) -> None:
        """A user's Podman cannot be asked. What it last said stays."""
        if self._lost.get(uid) == reason:
            return
        self._lost[uid] = reason
        if self._whole or uid == 0:
            self._put(self._losses())
        if uid and uid in self._expected:
            self._answered(uid)

    def done(self, uid: int) -> bool:
        """Tell whether nothing more is to be heard of a user who runs no container: none is left, or it is lost."""
        return uid in self._lost or not self._held.get(uid, True)

    def left(self, uid: int) -> None:
        """Whatever was said of a user's containers is no longer so."""
        self._held.pop(uid, None)
        self._lost.pop(uid, None)
        self._answered(uid)

    async def take(self) -> RuntimeEvent:
        """Return the oldest event, waiting until there is one."""
        return await self._out.take()

    def _answered(self, uid: int) -> None:
        self._expected.discard(uid)
        self._begin()

    def _begin(self) -> None:
        """Say everything anew: what waits is part of it."""
        if self._expected:
            return
        self._whole = True
        everything = [seen for held in self._held.values() for seen in held.values()]
        self._put(Listed(tuple(sorted(everything, key=lambda seen: seen.sighting.id))))
        if self._lost:
            self._put(self._losses())

    def _losses(self) -> Lost:
        return Lost("; ".join(self._lost[uid] for uid in sorted(self._lost)))

    def _put(self, event: RuntimeEvent) -> None:
        """Add an event; before everything was listed, only a loss is told."""
        if self._whole or isinstance(event, Lost):
            self._out.put(event)
