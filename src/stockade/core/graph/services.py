"""Policy's names for ports."""

from collections.abc import Iterable, Iterator

from stockade.core.model.net import PORTED, Ports, Protocol
from stockade.core.model.policy import PolicySet, Service, ServiceRef

NAMED = frozenset(int(each) for each in Protocol if each is not Protocol.ANY)


class Services:
    """Finds the services of a policy by port; those bound to a program are none here, for an allow cannot use them."""

    def __init__(self, policy: PolicySet) -> None:
        free = [each for each in policy.services if each.process is None and each.unit is None]
        self._by_size = sorted(free, key=lambda each: (size(each.ports), len(each.ports), each.name))

        self._ports = {each.name: each.ports for each in free}
        self._names: dict[tuple[int, int], str] = {}

    def written(self, on: Iterable[ServiceRef]) -> Iterator[Ports]:
        """Yield the ports that services and ports mean."""
        for each in on:
            yield from (each,) if isinstance(each, Ports) else self._ports.get(each, ())

    def name(self, protocol: int, port: int) -> str:
        """Return the name of the narrowest service that means a port; empty where there is none."""
        found = self._names.get((protocol, port))
        if found is None:
            found = self._names[protocol, port] = next((each.name for each in self.holding(protocol, port)), "")
        return found

    def holding(self, protocol: int, port: int) -> Iterator[Service]:
        """Yield the services that mean a port, narrowest first."""
        return (each for each in self._by_size if any(covers(ports, protocol, port) for ports in each.ports))


def covers(ports: Ports, protocol: int, port: int) -> bool:
    """Tell whether ports mean one."""
    if ports.protocol is Protocol.ANY:
        return True
    return ports.protocol == protocol and ports.first <= port <= ports.last


def size(ports: tuple[Ports, ...]) -> int:
    """Count what ports mean: single ports, or whole types of ICMP."""
    counts = ((each.last - each.first) // (1 if each.protocol in PORTED else 256) + 1 for each in ports)
    return sum(counts)


def protocol_of(number: int) -> Protocol:
    """Return the protocol that policy can name, or ``ANY``, which stands for those it cannot."""
    return Protocol(number) if number in NAMED else Protocol.ANY
