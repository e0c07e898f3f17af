"""Several sources, one workload: who speaks for it, and what the others add. Pure.

Two sources speak of the same where they share a mark: a container's id, a network namespace, a port of the host. The
source that knows most speaks; another one's sighting of the same only lends it what it has not said yet, its place on
the network. What one source tells apart stays apart. The outcome depends on what was said last, never on the order.

``merge`` says it plainly. ``Merging`` keeps the same outcome while words come and go, at the cost of what they touch.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from stockade.core.model.ids import Address, WorkloadId
from stockade.core.model.inventory import Sighting, WorkloadKind, WorkloadState
from stockade.seams.runtime import Seen

SPEAKERS = ("lab", "docker", "podman", "containerd", "libvirt", "qemu", "machines", "namespaces")
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


def give_way(sightings: Mapping[WorkloadId, Sighting]) -> Mapping[WorkloadId, Sighting]:
    """Take from virtual machines the addresses that others have: theirs are learnt from what they say themselves."""
    if all(each.kind is not WorkloadKind.VM for each in sightings.values()):
        return sightings
    told = {
        address
        for each in sightings.values()
        if each.kind is not WorkloadKind.VM
        for endpoint in each.endpoints
        for address in endpoint.addresses
    }
    return {id_: _without(each, told) if each.kind is WorkloadKind.VM else each for id_, each in sightings.items()}


def _without(sighting: Sighting, told: Collection[Address]) -> Sighting:
    endpoints = tuple(
        msgspec.structs.replace(each, addresses=tuple(a for a in each.addresses if a not in told))
        for each in sighting.endpoints
    )
    return sighting if endpoints == sighting.endpoints else msgspec.structs.replace(sighting, endpoints=endpoints)


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


class Merging:
    """The merged outcome of what was said last, kept up to date word by word: law: ``merged`` is ``merge(said)``.

    Only the workloads that a word is connected with by marks, before or after it, are looked at again.
    """

    def __init__(self) -> None:
        self.merged: dict[WorkloadId, Sighting] = {}
        """Each workload once, by id."""
        self._words: dict[_Key, Seen] = {}
        self._bearers: dict[str, set[_Key]] = {}

    def put(self, source: str, seen: Seen) -> None:
        """Take what a source says of one workload now."""
        key = (source, seen.sighting.id)
        before = self._words.get(key)
        if before is not None and (before.sighting, before.marks) == (seen.sighting, seen.marks):
            return
        touched = self._without(key)
        self._words[key] = seen
        for mark in marks(seen):
            self._bearers.setdefault(mark, set()).add(key)
        self._merge_again(touched | self._connected({key}))

    def drop(self, source: str, id_: WorkloadId) -> None:
        """Forget what a source said of one workload."""
        if (source, id_) in self._words:
            self._merge_again(self._without((source, id_)))

    def bearer(self, mark: str) -> WorkloadId | None:
        """Return the workload that bears a mark; None where no source knows it. Of several, one that has its place."""
        keys = self._connected(set(self._bearers.get(mark, ())))
        words = {id_: self.merged[id_] for _, id_ in keys if id_ in self.merged}
        own = {id_ for _, id_ in self._bearers.get(mark, ())}
        by_use = sorted(words, key=lambda id_: (words[id_].owner is not None, id_ not in own, id_))
        return by_use[0] if by_use else None

    def words_of(self, id_: WorkloadId) -> set["_Key"]:
        """Return the words about one merged workload: (source, id as the source calls it)."""
        keys = self._connected(set(self._bearers.get(f"id:{id_}", ())))
        return {(source, each) for source, each in keys if each == id_ or each not in self.merged}

    def _without(self, key: "_Key") -> "set[_Key]":
        """Take a word out; return those that it was connected with, and forget what they came to."""
        seen = self._words.get(key)
        if seen is None:
            return set()
        touched = self._connected({key}) - {key}
        self._forget(touched | {key})
        del self._words[key]
        for mark in set(marks(seen)):
            self._bearers[mark].discard(key)
            if not self._bearers[mark]:
                del self._bearers[mark]
        return touched

    def _connected(self, keys: "set[_Key]") -> "set[_Key]":
        found, left = set(keys), list(keys)
        while left:
            for mark in marks(self._words[left.pop()]):
                new = self._bearers[mark] - found
                found |= new
                left += new
        return found

    def _merge_again(self, keys: "set[_Key]") -> None:
        self._forget(keys)
        said: dict[str, dict[WorkloadId, Seen]] = {}
        for source, id_ in keys:
            said.setdefault(source, {})[id_] = self._words[source, id_]
        self.merged.update(merge(said))

    def _forget(self, keys: "set[_Key]") -> None:
        for _, id_ in keys:
            self.merged.pop(id_, None)


_Key = tuple[str, WorkloadId]
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
        yield _completed(seen, speaker, same)


def _completed(spoken: Seen, speaker: str, others: Iterable[Word]) -> Sighting:
    """Name the sources, and put in what another source lends.

    Who has a mark in common lends before who is led to by others: the name of a port is given again, and whoever had
    it last may not have been told gone yet.
    """
    others, own = list(others), set(marks(spoken))
    sighting, sources = spoken.sighting, (speaker, *dict.fromkeys(source for source, _ in others))
    nearest = sorted(others, key=lambda word: own.isdisjoint(marks(word[1])))
    lent = _lent(sighting, [seen.sighting for _, seen in nearest])
    if lent is None:
        return msgspec.structs.replace(sighting, sources=sources)
    return msgspec.structs.replace(sighting, sources=sources, endpoints=lent.endpoints, state=lent.state)


def _lent(sighting: Sighting, others: Iterable[Sighting]) -> Sighting | None:
    """Return who knows where it is met, where it does not say so itself, nor that it has ended.

    A link is there before its address: whoever looked at that moment knows of a place, and of nobody in it.
    """
    if _met(sighting) or sighting.owner is not None or sighting.state is WorkloadState.STOPPED:
        return None
    offered = sorted(filter(_lends, others), key=lambda each: not _met(each))
    if not offered or (sighting.endpoints and not _met(offered[0])):
        return None
    return offered[0]


def _lends(sighting: Sighting) -> bool:
    return bool(sighting.endpoints) and sighting.state is WorkloadState.RUNNING


def _met(sighting: Sighting) -> bool:
    return any(each.addresses for each in sighting.endpoints)
