"""A layout as route-netlink messages, ready to be sent in the namespace they are for. Sends nothing itself."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from stockade.testing.lab.layout import Layout, Plug, Route, bridge_mac, gateway, link_local

NEW = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
CHANGE = NLM_F_REQUEST | NLM_F_ACK
UP = 1
LOOPBACK = 1
INET, INET6 = 2, 10
NODAD, ONLINK = 0x02, 4
UNICAST, BOOT, MAIN_TABLE, UNIVERSE, LINK = 1, 3, 254, 0, 253


def host_basis(layout: Layout) -> list[bytes]:
    """Return what a host needs before any node: its own addresses and its bridges."""
    topology = layout.topology
    found = [link_up(LOOPBACK)]
    found += [address(LOOPBACK, each, 128 if ":" in each else 32) for each in topology.addresses]
    for name, bridge in layout.bridges.items():
        index, mac = layout.bridge_index(name), bridge_mac(name)
        found.append(_new_link(index, name, mac, "bridge"))
        found.append(address(index, link_local(mac), 64, dad=topology.dad))
        for subnet in bridge.subnets:
            length = ipaddress.ip_network(subnet).prefixlen
            found.append(address(index, gateway(subnet), length, dad=topology.dad))
    return found


def host_end(layout: Layout, plug: Plug, pid: int) -> list[bytes]:
    """Return the making of a node's link, from the host's side; the node is the namespace of ``pid``."""
    peer = {
        "index": plug.index,
        "attrs": [("IFLA_IFNAME", plug.interface), ("IFLA_ADDRESS", plug.mac), ("IFLA_NET_NS_PID", pid)],
    }
    master = [("IFLA_MASTER", layout.bridge_index(plug.bridge))] if plug.bridge else []
    found = [_new_link(plug.port_index, plug.port, plug.port_mac, "veth", peer, master)]
    return [*found, *host_side(layout, plug)]


def host_side(layout: Layout, plug: Plug) -> list[bytes]:
    """Return what makes the host the next hop of a node that no bridge carries."""
    if plug.bridge:
        return []
    own = address(plug.port_index, link_local(plug.port_mac), 64, dad=layout.topology.dad)
    return [own, *(route(each) for each in layout.host_routes(plug))]


def node_end(layout: Layout, plugs: Iterable[Plug]) -> list[bytes]:
    """Return what a node does once its links are there: addresses, then routes."""
    laid = tuple(plugs)
    found = [link_up(LOOPBACK)]
    for plug in laid:
        found += [link_up(plug.index), *node_addresses(layout, plug)]
    return found


def node_addresses(layout: Layout, plug: Plug) -> list[bytes]:
    """Return the addresses and routes of one link of a node."""
    dad = layout.topology.dad
    found = [address(plug.index, each, length, dad=dad) for each, length in plug.addresses]
    return found + [route(each) for each in layout.node_routes(plug)]


def moved_routes(layout: Layout, old: Plug, new: Plug) -> list[bytes]:
    """Return the host's change when a node that no bridge carries has other addresses."""
    going, coming = set(old.bare) - set(new.bare), set(new.bare) - set(old.bare)
    found = [no_route(Route(each, old.port_index, six=":" in each)) for each in sorted(going)]
    return found + [route(each) for each in layout.host_routes(new) if each.to in coming]


def no_addresses(layout: Layout, plug: Plug) -> list[bytes]:
    """Return what undoes ``node_addresses``."""
    found = [no_route(each) for each in layout.node_routes(plug)]
    return found + [no_address(plug.index, each, length) for each, length in plug.addresses]


def link_up(index: int) -> bytes:
    """Return the message that sets a link up."""
    return _message(ifinfmsg, RTM_NEWLINK, CHANGE, {"index": index, "flags": UP, "change": UP})


def change_link(index: int, *, master: int | None = None, mac: str = "", up: bool | None = None) -> bytes:
    """Return the message that moves a link to another bridge (0: to none), or gives it another MAC or state."""
    attrs: list[tuple[str, object]] = []
    attrs += [("IFLA_MASTER", master)] if master is not None else []
    attrs += [("IFLA_ADDRESS", mac)] if mac else []
    state = {} if up is None else {"flags": UP if up else 0, "change": UP}
    return _message(ifinfmsg, RTM_NEWLINK, CHANGE, {"index": index, **state}, attrs)


def delete_link(index: int) -> bytes:
    """Return the message that deletes a link; its other end goes with it."""
    return _message(ifinfmsg, RTM_DELLINK, CHANGE, {"index": index})


def address(index: int, text: str, length: int, *, dad: bool = False) -> bytes:
    """Return the message that gives a link an address."""
    six = ":" in text
    attrs: list[tuple[str, object]] = [("IFA_ADDRESS", text), ("IFA_LOCAL", text)]
    attrs += [("IFA_FLAGS", NODAD)] if six and not dad else []
    fields = {"family": INET6 if six else INET, "prefixlen": length, "index": index}
    return _message(ifaddrmsg, RTM_NEWADDR, NEW, fields, attrs)


def no_address(index: int, text: str, length: int) -> bytes:
    """Return the message that takes an address from a link."""
    fields = {"family": INET6 if ":" in text else INET, "prefixlen": length, "index": index}
    return _message(ifaddrmsg, RTM_DELADDR, CHANGE, fields, [("IFA_ADDRESS", text), ("IFA_LOCAL", text)])


def route(wanted: Route) -> bytes:
    """Return the message that adds a route."""
    return _route(RTM_NEWROUTE, NEW, wanted)


def no_route(wanted: Route) -> bytes:
    """Return the message that takes a route away."""
    return _route(RTM_DELROUTE, CHANGE, wanted)


def _route(type_: int, flags: int, wanted: Route) -> bytes:
    attrs: list[tuple[str, object]] = [("RTA_OIF", wanted.index)]
    attrs += [("RTA_DST", wanted.to)] if wanted.to else []
    attrs += [("RTA_GATEWAY", wanted.via)] if wanted.via else []
    attrs += [("RTA_PREFSRC", wanted.source)] if wanted.source else []
    fields = {
        "family": INET6 if wanted.six else INET,
        "dst_len": (128 if wanted.six else 32) if wanted.to else 0,
        "table": MAIN_TABLE,
        "proto": BOOT,
        "scope": UNIVERSE if wanted.via or wanted.six else LINK,
        "type": UNICAST,
        "flags": ONLINK if wanted.via else 0,
    }
    return _message(rtmsg, type_, flags, fields, attrs)


def _new_link(index: int, name: str, mac: str, kind: str, peer: dict[str, Any] | None = None,
              more: Iterable[tuple[str, object]] = ()) -> bytes:  # fmt: skip
    info: list[tuple[str, object]] = [("IFLA_INFO_KIND", kind)]
    info += [("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]})] if peer else []
    attrs = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), ("IFLA_LINKINFO", {"attrs": info}), *more]
    return _message(ifinfmsg, RTM_NEWLINK, NEW, {"index": index, "flags": UP, "change": UP}, attrs)


def _message(kind: Any, type_: int, flags: int, fields: dict[str, Any],
             attrs: Iterable[tuple[str, object]] = ()) -> bytes:  # fmt: skip
    message = kind()
    message["header"] = {"type": type_, "flags": flags, "sequence_number": 1, "pid": 0}
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attrs)
    message.encode()
    return bytes(message.data)
