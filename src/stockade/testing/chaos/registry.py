"""The list of all faults."""

from stockade.testing.chaos import callers, clocks, folders, network, processes, sources
from stockade.testing.chaos.fault import REGISTRY, Fault

__all__ = ["FAMILIES", "FAULTS"]

FAMILIES = (processes, folders, clocks, sources, network, callers)
FAULTS: tuple[Fault, ...] = tuple(REGISTRY.values())
