"""Two ways to look at a packet: as its connection, or as it is.

Every packet of a tracked connection is judged as the connection's first packet would be judged now, in whichever
direction it travels: source and destination come from connection tracking, after destination translation and before
source translation. So a reply needs no rule of its own, and a changed rule ends a live connection with its next
packet. Untracked packets have only themselves to show.
"""

import msgspec

from stockade.core.model.net import Protocol

NAMES = {
    Protocol.TCP: "tcp",
    Protocol.UDP: "udp",
    Protocol.SCTP: "sctp",
    Protocol.ICMP: "icmp",
    Protocol.ICMPV6: "icmpv6",
}


class View(msgspec.Struct, frozen=True):
    """Expressions for the two ends and the port (for ICMP: type and code), with a letter for chain names."""

    letter: str
    source: str
    destination: str
    port: str
    icmp: str

    def key(self, protocol: Protocol) -> str:
        """Return the expression that finds a service within a protocol, with the match that it needs before it."""
        of_icmp = protocol in (Protocol.ICMP, Protocol.ICMPV6)
        return f"meta l4proto {NAMES[protocol]} {self.icmp if of_icmp else self.port}"

    def at(self, end: str, family: int) -> str:
        """Return the address expression of one end, ``source`` or ``destination``, for family 4 or 6."""
        return (self.source if end == "source" else self.destination).format(ip="ip" if family == 4 else "ip6")


CONNECTION = View("c", "ct original {ip} saddr", "ct reply {ip} saddr", "ct reply proto-src", "ct original proto-dst")
PACKET = View("p", "{ip} saddr", "{ip} daddr", "th dport", "@th,0,16")
VIEWS = (CONNECTION, PACKET)
FAMILIES = (4, 6)
