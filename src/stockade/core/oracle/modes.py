"""Which mode a workload is in, what is quarantined, and what a host does to births (``docs/policy.md``, 3 and 5)."""

from collections.abc import Iterable, Iterator
from itertools import product

from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Sighting, Workload, WorkloadKind
from stockade.core.model.labels import NAME, Label, Labels
from stockade.core.model.policy import DEFAULT_MODE, Births, EnforcementMode, Mode, Quarantine
from stockade.core.model.selector import And, Equal, Has, In, Not, Or, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle.matching import selects

ENFORCING = (Mode.SELECTIVE, Mode.FULL)
_STRICTNESS = list(Mode)
_UNHEARD_OF = "\0"
"""A label value that no selector can name."""


def mode(snapshot: Snapshot, workload: Workload) -> Mode:
    """Return a workload's mode. No mode selects an unknown one: it judges nothing, like ``idle``."""
    if not workload.known:
        return Mode.IDLE
    deciding = deciding_mode(snapshot, workload)
    return deciding.mode if deciding else Mode.VISIBILITY


def deciding_mode(snapshot: Snapshot, workload: Workload) -> EnforcementMode | None:
    """Return the document that gives a workload its mode."""
    return max((each for each in snapshot.policy.modes if selects(each.select, workload)), key=_weight, default=None)


def _weight(each: EnforcementMode) -> tuple[bool, int, int]:
    """Higher priority, then the stricter; ``default`` comes last whatever it says."""
    return each.name != DEFAULT_MODE, each.priority, _STRICTNESS.index(each.mode)


def enforced(snapshot: Snapshot, workload: Workload) -> bool:
    """Tell whether anything may be dropped at a workload's own end: by its mode, or by a quarantine."""
    return mode(snapshot, workload) in ENFORCING or bool(quarantines(snapshot, workload))


def quarantines(snapshot: Snapshot, workload: Workload | None) -> list[Quarantine]:
    """Return the quarantines that hold a workload; one that has lapsed does not exist."""
    return [
        each
        for each in snapshot.policy.quarantines
        if workload is not None and each.name not in snapshot.lapsed and selects(each.select, workload)
    ]


def births(snapshot: Snapshot, host: HostId) -> Births:
    """Return what ``host`` does to an endpoint that nobody has labelled yet.

    A mode that selects the host itself may say; else it holds as soon as a future workload could be ``full``.
    """
    own = snapshot.workloads.get(snapshot.hosts[host].workload)
    said = [each for each in snapshot.policy.modes if each.births and own is not None and selects(each.select, own)]
    if said:
        return max(said, key=lambda each: (*_weight(each), each.births is Births.HOLD)).births or Births.HOLD
    return Births.HOLD if _full_is_possible(snapshot) else Births.PASS


def _full_is_possible(snapshot: Snapshot) -> bool:
    """Try every labelling that the modes could tell apart."""
    selectors = [each.select for each in snapshot.policy.modes]
    return any(mode(snapshot, future) is Mode.FULL for future in _futures(selectors))


def _futures(selectors: Iterable[Selector]) -> Iterator[Workload]:
    """Yield one workload for each combination of mentioned values, one unmentioned value, and absence, by key."""
    mentioned: dict[str, set[str]] = {NAME: set()}
    for selector in selectors:
        for key, value in _mentions(selector):
            mentioned.setdefault(key, set()).update(value)
    keys = sorted(mentioned)
    for values in product(*([*sorted(mentioned[key]), _UNHEARD_OF, None] for key in keys)):
        labelling = dict(zip(keys, values, strict=True))
        if (name := labelling.pop(NAME)) is not None:  # every workload has a name
            yield _workload(name, labelling)


def _workload(name: str, labelling: dict[str, str | None]) -> Workload:
    some_other = Label("\0", _UNHEARD_OF)  # somebody has labelled it, if only with what no selector mentions
    labels = (some_other, *(Label(key, value) for key, value in labelling.items() if value is not None))
    return Workload(Sighting(WorkloadId("future"), name, WorkloadKind.CONTAINER), Labels(labels))


def _mentions(selector: Selector) -> Iterator[tuple[str, tuple[str, ...]]]:
    match selector:
        case Equal(key=key, value=value):
            yield key, (value,)
        case In(key=key, values=values):
            yield key, values
        case Has(key=key):
            yield key, ()
        case Not(of=inner):
            yield from _mentions(inner)
        case And(of=parts) | Or(of=parts):
            for part in parts:
                yield from _mentions(part)
        case _:
            return
