"""Random worlds from a printed seed: the same seed gives the same world, without any testing library.

``world(seed)`` is a snapshot whose policy is complete and whose labels came the way labels come: from facts by rules,
and from operators. ``world_events(seed)`` are the events that make it. ``packets(snapshot, seed, n)`` go through it.
"""

from random import Random

from stockade.core.fold import fold
from stockade.core.model.event import Event, PolicyActivated, QuarantineLapsed
from stockade.core.model.ids import HostId, Version
from stockade.core.model.packet import Packet
from stockade.core.model.snapshot import Snapshot
from stockade.testing import traffic
from stockade.testing.inventories import HOST_A, chance, inventory_events
from stockade.testing.policies import policy_set


def world(seed: int) -> Snapshot:
    """Make the snapshot of a seed."""
    return fold(world_events(seed))


def world_events(seed: int) -> list[Event]:
    """Make the events of a seed's world."""
    return events_from(Random(seed))


def packets(snapshot: Snapshot, seed: int, count: int, host: HostId = HOST_A) -> list[Packet]:
    """Make ``count`` packets that ``host`` meets; at least two in five of them are denied over many worlds."""
    return traffic.packets(Random(seed), snapshot, host, count)


def events_from(random: Random) -> list[Event]:
    """Make a world's events from random numbers."""
    inventory = inventory_events(random)
    policy = policy_set(random)
    lapsed: list[Event] = [QuarantineLapsed(each.name) for each in policy.quarantines if chance(random, 0.2)]
    return [*inventory, PolicyActivated(Version(1), policy), *lapsed]
