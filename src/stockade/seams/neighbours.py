"""The links of this host's endpoints, as far as we ourselves say something there."""

from typing import Protocol

import msgspec

from stockade.core.model.ids import Address


class Introduction(msgspec.Struct, frozen=True):
    """Who is whose neighbour: the endpoint ``mac`` with ``addresses`` behind ``port`` of ``bridge``.

    ``neighbours`` are (address, MAC); an empty MAC is the bridge's own. ``new``: the others are to hear of it, too.
    """

    port: str
    mac: str
    addresses: tuple[Address, ...]
    bridge: str
    neighbours: tuple[tuple[Address, str], ...]
    new: bool = True


class Neighbours(Protocol):
    """Says on a link what is true there."""

    def introduce(self, introduction: Introduction) -> int:
        """Tell an endpoint of its neighbours, and them and the host of it where it is new; return of how many it heard.

        Raises ``OSError`` where its port or its bridge is gone.
        """
        ...
