"""One kind of fault, and the list of all: whoever writes one down with ``@fault`` has it struck."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

import msgspec

from stockade.testing.chaos.ground import Ground
from stockade.testing.steady import Kind

Strike = Callable[[Ground, Random], AbstractAsyncContextManager[None]]
Steps = Callable[[Ground, Random], AsyncIterator[None]]

NOTHING_LOST: tuple[Kind, ...] = ()


def here(_ground: Ground) -> str:
    """Say why a fault cannot be done on this machine; empty: it can."""
    return ""


class Fault(msgspec.Struct, frozen=True):
    """What fails (``name``, ``what``), and what is ``seen`` of it.

    ``strike`` is entered to strike and left to heal. ``opens``: nobody holds the tables, so that they can be taken
    away; what passes until they are restored is said and is no violation. ``cuts``: flows of which packets are lost
    while it lasts, as the fault is one of the wire. ``refuses``: changes may be refused. ``says``: a word that the
    server's log must then have; ``counts``: a source that must have counted a loss. ``missing`` says why it cannot be
    done here.
    """

    name: str
    what: str
    seen: str
    strike: Strike
    opens: bool = False
    cuts: tuple[Kind, ...] = NOTHING_LOST
    refuses: bool = False
    says: str = ""
    counts: str = ""
    missing: Callable[[Ground], str] = here


REGISTRY: dict[str, Fault] = {}


def fault(
    seen: str,
    *,
    opens: bool = False,
    cuts: tuple[Kind, ...] = NOTHING_LOST,
    refuses: bool = False,
    says: str = "",
    counts: str = "",
    missing: Callable[[Ground], str] = here,
) -> Callable[[Steps], Steps]:
    """Write a fault down: its steps strike, ``yield`` while it lasts, and heal; their docstring says what fails."""

    def written(steps: Steps) -> Steps:
        name = steps.__name__.replace("_", "-")
        what, strike = (steps.__doc__ or "").strip().rstrip("."), asynccontextmanager(steps)
        REGISTRY[name] = Fault(name, what, seen, strike, opens, cuts, refuses, says, counts, missing)
        return steps

    return written
