"""Hypothesis strategies over the words of the model: the same worlds as ``worlds``, found and shrunk by hypothesis.

Every strategy draws from one stream of random numbers that hypothesis controls, so whatever fails is shrunk towards
the first choice everywhere: fewer objects, plainer ones. Needs hypothesis, which Stockade itself does not.
"""

from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from stockade.core.fold import fold
from stockade.core.model.event import Event
from stockade.core.model.labels import Label, Labels, LabelSource
from stockade.core.model.packet import Packet
from stockade.core.model.policy import EnforcementMode, Policy, PolicySet, Quarantine
from stockade.core.model.selector import Selector
from stockade.core.model.snapshot import Snapshot
from stockade.testing import policies as make
from stockade.testing import traffic
from stockade.testing.inventories import DIMENSIONS, HOST_A, inventory_events
from stockade.testing.worlds import events_from

_T = TypeVar("_T")


def drawn(made: Callable[[Random], _T]) -> SearchStrategy[_T]:
    """Turn a function of random numbers into a strategy."""
    return st.randoms(use_true_random=False).map(made)


def labels() -> SearchStrategy[Labels]:
    """Label sets over the usual dimensions, the empty one included, from any source."""
    return st.fixed_dictionaries(
        {}, optional={key: st.tuples(st.sampled_from(values), _sources()) for key, values in DIMENSIONS.items()}
    ).map(lambda said: Labels(tuple(Label(key, *said[key], "somebody") for key in sorted(said))))


def _sources() -> SearchStrategy[LabelSource]:
    return st.sampled_from(tuple(LabelSource))


def selectors() -> SearchStrategy[Selector]:
    """Selectors over the usual dimensions and ``name``, up to three levels deep."""
    return drawn(lambda random: make.selector(random, 3))


def policies() -> SearchStrategy[Policy]:
    """Single policies: rules of every action, ends of every kind, with and without scope."""
    return drawn(lambda random: make.policy(random, "policy"))


def modes() -> SearchStrategy[EnforcementMode]:
    """Single enforcement modes."""
    return drawn(lambda random: make.mode(random, "mode"))


def quarantines() -> SearchStrategy[Quarantine]:
    """Single quarantines, with and without exceptions."""
    return drawn(lambda random: make.quarantine(random, "quarantine"))


def policy_sets() -> SearchStrategy[PolicySet]:
    """Complete policy, built-ins included."""
    return drawn(make.policy_set)


def inventories() -> SearchStrategy[list[Event]]:
    """Events that report one host, what it carries, and what lies around it; no policy."""
    return drawn(inventory_events)


def histories() -> SearchStrategy[list[Event]]:
    """Events that make a whole world."""
    return drawn(events_from)


def snapshots() -> SearchStrategy[Snapshot]:
    """Whole worlds: inventory, labels, complete policy."""
    return histories().map(fold)


def packets(snapshot: Snapshot) -> SearchStrategy[Packet]:
    """Packets that host-a of ``snapshot`` meets."""
    return drawn(lambda random: traffic.packets(random, snapshot, HOST_A, 1)[0])


@st.composite
def situations(draw: st.DrawFn, count: int = 5) -> tuple[Snapshot, list[Packet]]:
    """A world and ``count`` packets in it."""
    snapshot = draw(snapshots())
    return snapshot, draw(drawn(lambda random: traffic.packets(random, snapshot, HOST_A, count)))
