"""From what the kernel shows to the census of a host: whose each network namespace is, and how soon each was told of.

Pure.
"""

from collections.abc import Iterator

from stockade.agent.inventory import Inventory
from stockade.core.model.census import Census, Listening, Process, Within
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import WorkloadKind
from stockade.seams.survey import NamespaceSeen, Survey


def census(host: HostId, survey: Survey, inventory: Inventory, now: float) -> Census:
    """Return all that was seen of a host, workload by workload."""
    seen: dict[WorkloadId, list[NamespaceSeen]] = {}
    for each in survey.namespaces:
        if (bearer := inventory.bearer(each.mark)) is not None:
            seen.setdefault(bearer, []).append(each)
    return Census(
        host,
        now,
        survey.around,
        tuple(_within(survey, inventory, seen)),
        inventory.tallies(),
        survey.not_assessed,
    )


def _within(survey: Survey, inventory: Inventory, seen: dict[WorkloadId, list[NamespaceSeen]]) -> Iterator[Within]:
    for sighting in inventory.sightings():
        if sighting.kind is WorkloadKind.HOST:
            yield Within(sighting.id, listening=survey.listening)
        else:
            process, listening = _together(seen.get(sighting.id, []))
            yield Within(sighting.id, process, listening, inventory.heard(sighting.id))


def _together(seen: list[NamespaceSeen]) -> tuple[Process | None, tuple[Listening, ...]]:
    """Join the namespaces of one workload, by mark."""
    ordered = sorted(seen, key=lambda each: each.mark)
    first = next((each.process for each in ordered if each.process), None)
    return first, tuple(dict.fromkeys(found for each in ordered for found in each.listening))
