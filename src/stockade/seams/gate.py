"""The gate: runtimes ask at it whether a container may start, and wait for the answer."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

from stockade.core.model.policy import Births, Where
from stockade.seams.runtime import RuntimeEvent


class Knock(msgspec.Struct, frozen=True):
    """A runtime asks. ``by`` says through what: ``oci``, ``cni``, ``nri``; ``status``: about no container at all.

    ``netns`` is the path of the container's network namespace; empty where it is not there yet.
    """

    by: str
    container: str = ""
    netns: str = ""


Answer = Callable[[Knock], str]
"""Why a container may not start; empty where it may. Asked in the gate's own threads, and must not wait."""


class Gate(Protocol):
    """Where runtimes ask. What it hears of births before anybody else it tells, as a source of workloads does."""

    def attend(self, answer: Answer, starting: Callable[[], bool]) -> AsyncIterator[RuntimeEvent]:
        """Answer whoever asks, for ever; while all is still ``starting``, after a moment. ``OSError`` where it cannot
        be opened.
        """
        ...

    def keep(self, births: Births, where: Where) -> None:
        """Write down what holds where nobody answers. ``OSError`` where it cannot be written."""
        ...
