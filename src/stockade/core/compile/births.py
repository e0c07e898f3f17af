"""Whether a host holds endpoints that nobody has labelled yet (``docs/policy.md``, 5)."""

from typing import NamedTuple

from stockade.core import select
from stockade.core.compile.rulebook import Rulebook
from stockade.core.model.inventory import Workload
from stockade.core.model.policy import Births, EnforcementMode, Mode, Where
from stockade.core.model.selector import And, Not, Selector


class Ruling(NamedTuple):
    """What a host does to births, and the mode that makes it so: one that says it, or the first that could be full."""

    births: Births
    where: Where = Where()


def births(book: Rulebook, host: Workload | None) -> Ruling:
    """Return what a mode that selects the host says, else ``hold`` as soon as a future workload could be ``full``."""
    if host is not None and host.known:
        for mode in book.modes:
            if mode.births is not None and select.matches(mode.select, host.labels, host.name):
                return Ruling(mode.births, mode.where)
    full = possibly_full(book.modes)
    return Ruling(Births.HOLD, full.where) if full else Ruling(Births.PASS)


def possibly_full(modes: tuple[EnforcementMode, ...]) -> EnforcementMode | None:
    """Return the first mode that makes some labelling ``full``: one that selects it while none before it does."""
    before: list[Selector] = []
    for mode in modes:
        wanted = And((mode.select, *before)) if before else mode.select
        if mode.mode is Mode.FULL and select.satisfiable(wanted):
            return mode
        before.append(Not(mode.select))
    return None
