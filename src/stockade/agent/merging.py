"""Several sources, one workload: who speaks for it, and what the others add. Pure.

Two sources speak of the same where they share a mark: a container's id, a network namespace, a port of the host. The
source that knows most speaks; another one's sighting of the same only lends it what it has not said yet, its place on
the network. What one source tells apart stays apart. The outcome depends on what was said last, never on the order.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Sighting, WorkloadState
from stockade.seams.runtime import Seen

SPEAKERS = ("lab", "docker", "podman", "containerd", "libvirt", "machines", "namespaces")
"""Sources by how much they know of a workload, the best first; others follow, by name."""
LENDER = "gate"
"""It knows of a birth before anybody, and of nothing else: it lends, and never speaks."""

Said = Mapping[str, Mapping[WorkloadId, Seen]]


def merge(said: Said) -> dict[WorkloadId, Sighting]:
    """Return each workload once, by id, with the sources that see it."""
    merged: dict[WorkloadId, Sighting] = {}
    for group in _groups(said):
        if group[0][0] == LENDER:
            continue
        for sighting in _one_voice(group):
            merged.setdefault(sighting.id, sighting)
    return merged


def rank(source: str) -> tuple[int, str]:
    """Return where a source stands among those that see the same; lower speaks first."""
    if source in SPEAKERS:
        return SPEAKERS.index(source), source
    return len(SPEAKERS) + (source == LENDER), source


def marks(seen: Seen) -> Iterator[str]:
    """Yield all that tells a workload from others on its host."""
    yield f"id:{seen.sighting.id}"
    yield from seen.marks
    yield from (f"port:{each.port}" for each in seen.sighting.endpoints if each.port)


Word = tuple[str, Seen]


def _groups(said: Said) -> list[list[Word]]:
    """Return what is connected by marks, each group by rank and id."""
    leader: dict[str, str] = {}

    def lead(mark: str) -> str:
        while (above := leader.setdefault(mark, mark)) != mark:
            mark = above
        return mark

    words = [(source, said[source][id_]) for source in sorted(said, key=rank) for id_ in sorted(said[source])]
    for _, seen in words:
        first, *others = marks(seen)
        for mark in others:
            leader[lead(mark)] = lead(first)
    groups: dict[str, list[Word]] = {}
    for word in words:
        groups.setdefault(lead(f"id:{word[1].sighting.id}"), []).append(word)
    return list(groups.values())


def _one_voice(group: list[Word]) -> Iterator[Sighting]:
    """Yield what the best source says of a group, with what the others lend."""
    speaker = group[0][0]
    spoken = [seen for source, seen in group if source == speaker]
    others = [(source, seen) for source, seen in group if source != speaker]
    for seen in spoken:
        same = (
            others if len(spoken) == 1 else [word for word in others if not set(marks(word[1])).isdisjoint(marks(seen))]
        )
        yield _completed(seen.sighting, speaker, same)


def _completed(sighting: Sighting, speaker: str, others: Iterable[Word]) -> Sighting:
    """Name the sources; where the speaker knows of no place yet, and does not say that it has ended, take another's."""
    others = list(others)
    sources = (speaker, *dict.fromkeys(source for source, _ in others))
    lent = next((seen.sighting for _, seen in others if _lends(seen.sighting)), None)
    if lent is None or sighting.endpoints or sighting.owner is not None or sighting.state is WorkloadState.STOPPED:
        return msgspec.structs.replace(sighting, sources=sources)
    return msgspec.structs.replace(sighting, sources=sources, endpoints=lent.endpoints, state=lent.state)


def _lends(sighting: Sighting) -> bool:
    return bool(sighting.endpoints) and sighting.state is WorkloadState.RUNNING
