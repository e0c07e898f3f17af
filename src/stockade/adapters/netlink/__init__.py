"""The kernel's links and addresses: what interfaces this host has, whose ports they are, and the host itself.

Raw rtnetlink (``rtnetlink(7)``): a listing of 500 links costs milliseconds and no library stays resident. A change is
only ever a reason to list again, so nothing is lost with a message that the kernel dropped.
"""

from stockade.adapters.netlink.host import HostWatch, describe
from stockade.adapters.netlink.links import InterfaceAddress, Link, addresses, links, open_socket, ports_of

__all__ = ["HostWatch", "InterfaceAddress", "Link", "addresses", "describe", "links", "open_socket", "ports_of"]
