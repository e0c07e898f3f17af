"""Where on its host a network namespace is met."""

from collections.abc import Callable

import msgspec

from stockade.core.model.ids import Prefix
from stockade.core.model.inventory import Endpoint


class Place(msgspec.Struct, frozen=True):
    """What tells a network namespace from every other one since the host's start, and its endpoints on the host.

    ``beyond``: how many other links it has that may carry packets and do not end on this host.
    """

    mark: str
    endpoints: tuple[Endpoint, ...] = ()
    beyond: int = 0


Places = Callable[[str], Place]
"""The path of a network namespace (``/proc/PID/ns/net``, ``/run/netns/NAME``) → its place.

It blocks for a millisecond or so: run it in a thread. ``OSError`` where the namespace is gone, is the host's own,
or cannot be looked into at the moment: in a storm of births links change faster than they can be listed.
"""


Stirs = Callable[[str], int]
"""The path of a network namespace → a descriptor, for the caller to close, that becomes readable whenever a link or an
address in it changes. What it says is read away and means no more than that.

It blocks, and raises, as ``Places`` does.
"""


class Tap(msgspec.Struct, frozen=True):
    """A virtual machine's place on its host before anybody has said whose it is: no MAC, and no addresses.

    ``subnets`` are those of the host's own addresses on the bridge, or on the tap itself.
    """

    endpoint: Endpoint
    subnets: tuple[Prefix, ...] = ()
