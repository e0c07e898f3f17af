"""What the sources say of this host, merged: one sighting a workload, one host."""

from collections.abc import Iterable, Mapping

import msgspec

from stockade.agent.merging import merge
from stockade.core.model.event import Event, HostSeen, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Published, Sighting, WorkloadState
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen


class Inventory:
    """Keeps what each source last said. What a source that was lost said stays true until it lists again."""

    def __init__(self) -> None:
        self._said: dict[str, dict[WorkloadId, Seen]] = {}
        self._host: Host | None = None
        self._itself: Sighting | None = None
        self._listed: set[str] = set()
        self._merged: tuple[Sighting, ...] | None = None
        self.lost: dict[str, str] = {}

    def hear(self, source: str, event: RuntimeEvent) -> None:
        """Take in what a source said."""
        said = self._said.setdefault(source, {})
        self._merged = None
        match event:
            case Seen(sighting=sighting):
                said[sighting.id] = event
            case Gone(id=gone):
                said.pop(gone, None)
            case Listed(seen=seen):
                self._said[source] = {each.sighting.id: each for each in seen}
                self._listed.add(source)
                self.lost.pop(source, None)
            case Lost(reason=reason):
                self.lost[source] = reason

    def look(self, host: Host, itself: Sighting) -> None:
        """Take in the host as the kernel shows it."""
        self._merged = None
        self._host, self._itself = host, itself

    def complete(self, sources: Iterable[str], *, lost: bool = False) -> bool:
        """Tell whether the host was looked at and every source has listed, so that what is missing is gone.

        ``lost``: a source that said it cannot be reached is not waited for.
        """
        heard = self._listed.union(self.lost if lost else ())
        return self._host is not None and heard.issuperset(sources)

    def truth(self) -> dict[str, Event]:
        """Return what is true now, one event an object, by a key that names the object."""
        found: dict[str, Event] = {f"workload {each.id}": WorkloadSeen(each) for each in self.sightings()}
        if self._host is not None:
            found[f"host {self._host.id}"] = HostSeen(self._whole(self._host))
        return found

    def sightings(self) -> tuple[Sighting, ...]:
        """Return each workload once, by id; see ``merging`` for who speaks where several sources see one."""
        if self._merged is None:
            self._merged = self._merge()
        return self._merged

    def _merge(self) -> tuple[Sighting, ...]:
        merged = merge(self._said)
        if self._itself is not None:
            merged.setdefault(self._itself.id, self._itself)
        return tuple(merged[each] for each in sorted(merged))

    def _whole(self, host: Host) -> Host:
        """Complete the host by what sources know: published ports, and which ports belong to nobody they know."""
        published = tuple(self._published())
        claimed = {each.port for sighting in self.sightings() for each in sighting.endpoints if each.port}
        unknown = tuple(each for each in host.unknown if each.port not in claimed)
        return msgspec.structs.replace(host, published=(*host.published, *published), unknown=unknown)

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
