"""What the sources say of this host, merged: one sighting a workload, one host."""

from collections.abc import Iterable, Mapping

import msgspec

from stockade.agent.hearing import Hearing
from stockade.agent.merging import Merging, give_way
from stockade.core.model.census import SourceTally
from stockade.core.model.event import Event, HostSeen, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Published, Sighting, WorkloadState
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen


class Inventory:
    """Keeps what each source last said. What a source that was lost said stays true until it lists again."""

    def __init__(self) -> None:
        self._said: dict[str, dict[WorkloadId, Seen]] = {}
        self._merging = Merging()
        self._hearing = Hearing()
        self._host: Host | None = None
        self._itself: Sighting | None = None
        self._listed: set[str] = set()
        self._sorted: tuple[Sighting, ...] | None = None
        self._true: dict[WorkloadId, WorkloadSeen] = {}
        self.lost: dict[str, str] = {}

    def hear(self, source: str, event: RuntimeEvent, now: float | None = None) -> None:
        """Take in what a source said. ``now``: when it was heard, in seconds since the epoch."""
        said = self._said.setdefault(source, {})
        if now is not None:
            self._hearing.hear(source, event, now)
        match event:
            case Seen():
                self._put(source, event)
            case Gone(id=gone):
                self._drop(source, gone)
            case Listed(seen=seen):
                for gone in sorted(said.keys() - {each.sighting.id for each in seen}):
                    self._drop(source, gone)
                for each in seen:
                    self._put(source, each)
                self._listed.add(source)
                self.lost.pop(source, None)
            case Lost(reason=reason):
                self.lost[source] = reason

    def _put(self, source: str, seen: Seen) -> None:
        self._said[source][seen.sighting.id] = seen
        self._merging.put(source, seen)
        self._sorted = None

    def _drop(self, source: str, gone: WorkloadId) -> None:
        if self._said[source].pop(gone, None) is not None:
            self._merging.drop(source, gone)
            self._sorted = None

    def look(self, host: Host, itself: Sighting) -> None:
        """Take in the host as the kernel shows it."""
        self._sorted = None
        self._host, self._itself = host, itself

    def complete(self, sources: Iterable[str], *, lost: bool = False) -> bool:
        """Tell whether the host was looked at and every source has listed, so that what is missing is gone.

        ``lost``: a source that said it cannot be reached is not waited for.
        """
        heard = self._listed.union(self.lost if lost else ())
        return self._host is not None and heard.issuperset(sources)

    def truth(self) -> dict[str, Event]:
        """Return what is true now, one event an object, by a key that names the object."""
        self._true = {each.id: self._event(each) for each in self.sightings()}
        found: dict[str, Event] = {f"workload {id_}": event for id_, event in self._true.items()}
        if self._host is not None:
            found[f"host {self._host.id}"] = HostSeen(self._whole(self._host))
        return found

    def sightings(self) -> tuple[Sighting, ...]:
        """Return each workload once, by id; see ``merging`` for who speaks where several sources see one."""
        if self._sorted is None:
            merged = self._merging.merged
            if self._itself is not None:
                merged = {self._itself.id: self._itself} | merged
            settled = give_way(merged)
            self._sorted = tuple(settled[each] for each in sorted(settled))
        return self._sorted

    def bearer(self, mark: str) -> WorkloadId | None:
        """Return the workload that bears a mark; None where none is known to."""
        return self._merging.bearer(mark)

    def heard(self, id_: WorkloadId) -> tuple[tuple[str, float | None], ...]:
        """Return how many seconds each source took to tell of a workload, as it calls it; by source."""
        return tuple(
            (source, self._hearing.first(source, each)) for source, each in sorted(self._merging.words_of(id_))
        )

    def tallies(self) -> tuple[SourceTally, ...]:
        """Return how each source did, by name."""
        return self._hearing.tallies()

    def _whole(self, host: Host) -> Host:
        """Complete the host by what sources know: published ports, and which ports belong to nobody they know."""
        published = tuple(self._published())
        claimed = {each.port for sighting in self.sightings() for each in sighting.endpoints if each.port}
        unknown = tuple(each for each in host.unknown if each.port not in claimed)
        return msgspec.structs.replace(host, published=(*host.published, *published), unknown=unknown)

    def _event(self, sighting: Sighting) -> WorkloadSeen:
        """Return one and the same event for as long as a sighting is what it was: comparing it is then no work."""
        known = self._true.get(sighting.id)
        if known is None or known.sighting is not sighting:
            return WorkloadSeen(sighting)
        return known

    def _published(self) -> Iterable[Published]:
        for source in sorted(self._said):
            for _, seen in sorted(self._said[source].items()):
                if seen.sighting.state is WorkloadState.RUNNING:
                    yield from seen.published


def changes(before: Mapping[str, Event], after: Mapping[str, Event]) -> tuple[Event, ...]:
    """Return the events that lead from one truth to another: what is gone first, then hosts, then workloads."""
    gone = [_gone(before[key]) for key in sorted(before.keys() - after.keys())]
    moved = [after[key] for key in sorted(after) if before.get(key) != after[key]]
    return (*(each for each in gone if each is not None), *moved)


def _gone(event: Event) -> Event | None:
    return WorkloadGone(event.sighting.id) if isinstance(event, WorkloadSeen) else None


def addresses_of(endpoints: Iterable[Endpoint]) -> set[str]:
    """Return the addresses of endpoints that are not the host's own."""
    return {a for each in endpoints if each.attachment is not Attachment.HOST for a in each.addresses}
