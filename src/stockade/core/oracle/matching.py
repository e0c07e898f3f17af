"""What a selector, a service and a network set mean, one obvious line each (``docs/policy.md``, 7, 9, 10)."""

from ipaddress import ip_address, ip_network

from stockade.core.model.ids import Address, Prefix
from stockade.core.model.inventory import Host, Workload
from stockade.core.model.labels import NAME
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Packet
from stockade.core.model.policy import METADATA_SET, PER_HOST_SET, PolicySet, Service, ServiceRef
from stockade.core.model.selector import And, Equal, Everything, Has, In, Not, Or, Selector


def selects(selector: Selector, workload: Workload) -> bool:
    """Tell whether a selector matches a workload. An unknown one matches nothing, whatever the selector says."""
    return workload.known and _true_of(selector, workload)


def _true_of(selector: Selector, workload: Workload) -> bool:
    match selector:
        case Everything():
            return True
        case Equal(key=key, value=value):
            return _value(workload, key) == value
        case In(key=key, values=values):
            return _value(workload, key) in values
        case Has(key=key):
            return _value(workload, key) is not None
        case Not(of=inner):
            return not _true_of(inner, workload)
        case And(of=parts):
            return all(_true_of(part, workload) for part in parts)
        case Or(of=parts):
            return any(_true_of(part, workload) for part in parts)


def _value(workload: Workload, key: str) -> str | None:
    return workload.name if key == NAME else workload.labels.get(key)


def asks_for_trust(selector: Selector) -> bool:
    """Tell whether ``trusted(…)`` stands anywhere in a selector: an allow that needs it opens nothing yet."""
    match selector:
        case Equal(trusted=trusted):
            return trusted
        case Not(of=inner):
            return asks_for_trust(inner)
        case And(of=parts) | Or(of=parts):
            return any(asks_for_trust(part) for part in parts)
        case _:
            return False


def on(refs: tuple[ServiceRef, ...], policy: PolicySet, packet: Packet, *, opening: bool) -> bool:
    """Tell whether a rule's ``on`` means this packet; nothing written means everything.

    A service bound to a program opens nothing yet (``opening``), and is closed for every program.
    """
    return not refs or any(_covers(ports, packet) for ref in refs for ports in _ports(ref, policy, opening=opening))


def _covers(ports: Ports, packet: Packet) -> bool:
    if ports.protocol is Protocol.ANY:
        return True
    return ports.protocol == packet.protocol and ports.first <= packet.port <= ports.last


def _ports(ref: ServiceRef, policy: PolicySet, *, opening: bool) -> tuple[Ports, ...]:
    if isinstance(ref, Ports):
        return (ref,)
    return tuple(
        ports
        for service in policy.services
        if service.name == ref and not (opening and _bound(service))
        for ports in service.ports
    )


def _bound(service: Service) -> bool:
    return service.process is not None or service.unit is not None


def in_network_set(address: Address, name: str, policy: PolicySet, host: Host) -> bool:
    """Tell whether an address that is nobody's in the inventory belongs to a network set, as ``host`` sees it."""
    if any(_inside(address, bridge.subnets) for bridge in host.bridges):
        return False  # what lies behind our own bridges is a workload's, or nobody's
    if name != METADATA_SET and _listed(address, METADATA_SET, policy):
        return False  # credentials live there: only its own name opens it
    if name == PER_HOST_SET and not any(each.cidrs for each in policy.network_sets if each.name == name):
        return address in host.resolvers
    return _listed(address, name, policy)


def _listed(address: Address, name: str, policy: PolicySet) -> bool:
    return any(
        _inside(address, each.cidrs) and not _inside(address, each.excepted)
        for each in policy.network_sets
        if each.name == name
    )


def _inside(address: Address, prefixes: tuple[Prefix, ...]) -> bool:
    return any(ip_address(address) in ip_network(prefix) for prefix in prefixes)
