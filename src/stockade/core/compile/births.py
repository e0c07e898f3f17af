"""Whether a host holds endpoints that nobody has labelled yet (``docs/policy.md``, 5)."""

from stockade.core import select
from stockade.core.compile.rulebook import Rulebook
from stockade.core.model.inventory import Workload
from stockade.core.model.policy import Births, EnforcementMode, Mode
from stockade.core.model.selector import And, Not, Selector


def births(book: Rulebook, host: Workload | None) -> Births:
    """Return what a mode that selects the host says, else ``hold`` as soon as a future workload could be ``full``."""
    if host is not None and host.known:
        for mode in book.modes:
            if mode.births is not None and select.matches(mode.select, host.labels, host.name):
                return mode.births
    return Births.HOLD if full_is_possible(book.modes) else Births.PASS


def full_is_possible(modes: tuple[EnforcementMode, ...]) -> bool:
    """Tell whether some labelling would make a workload ``full``: select one such mode and none before it."""
    before: list[Selector] = []
    for mode in modes:
        wanted = And((mode.select, *before)) if before else mode.select
        if mode.mode is Mode.FULL and select.satisfiable(wanted):
            return True
        before.append(Not(mode.select))
    return False
