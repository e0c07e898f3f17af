"""The bits that Stockade uses of packet marks and connection marks. ``doctor`` checks them against other users.

Packet marks do not survive a veth between namespaces, so a container cannot set them; frames start with ours clear.
"""

import msgspec


class Marks(msgspec.Struct, frozen=True):
    """Single bits. ``judged``, ``forged``, ``keeping``, ``nowhere`` and ``itself`` live on packets, the others on
    connections.
    """

    judged: int = 0x1000_0000
    """The inet family let it pass: bridge forward drops what comes without."""
    forged: int = 0x2000_0000
    """Its source is not its endpoint's own: its sender counts as unknown."""
    keeping: int = 0x4000_0000
    """An allow with ``established: keep`` spoke of it; its connection is kept if the other end lets it pass too."""
    nowhere: int = 0x8000_0000
    """Nobody known was at the address it goes to when it was judged: it is not for who may be there by now."""
    itself: int = 0x0800_0000
    """Beside ``forged``: it is its endpoint's own, but nobody has labelled that. Nothing begins by it; what was kept
    before, and what a local proxy brings to it, goes on."""
    admitted: int = 0x0100_0000
    """The connection was let pass when a packet of it was last judged: ICMP errors about it may pass."""
    kept: int = 0x0200_0000
    """An allow with ``established: keep`` admitted it."""
    older: int = 0x0400_0000
    """It was met in the middle: its direction is not known."""
    reverse: int = 0x0800_0000
    """It is older than tracking, and policy allows it in the other direction."""
    proxied: int = 0x1000_0000
    """It is a local proxy's second leg, whose first leg was judged."""

    @property
    def packet(self) -> int:
        """All bits used of a packet's mark."""
        return self.judged | self.forged | self.keeping | self.nowhere | self.itself

    @property
    def living(self) -> int:
        """Connection bits that let a connection live on where no allow admits it now."""
        return self.kept | self.reverse

    @property
    def unlabelled(self) -> int:
        """Packet bits of what an endpoint that nobody has labelled sends as itself."""
        return self.forged | self.itself

    @property
    def lasting(self) -> int:
        """Connection bits of what goes on with such an endpoint."""
        return self.kept | self.proxied


MARKS = Marks()
