"""Cells → rules: the same ends together, services for ports, and for every rule what it rests on and what it opens."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stockade.core.graph.services import Services, covers, protocol_of
from stockade.core.graph.values import Traffic, total
from stockade.core.model.ids import Prefix, RuleId
from stockade.core.model.net import Ports
from stockade.core.model.policy import Action, End, Networks, NetworkSet, Rule, Selected, Service, ServiceRef
from stockade.core.plan.portset import portset
from stockade.core.policy.words import NAME_LIMIT, name_like
from stockade.core.suggest.cells import Cell, Cells
from stockade.core.suggest.people import People, Who
from stockade.core.suggest.values import Evidence, Opens, SuggestedRule

WIDE = 16
"""Ports that a service may mean beyond those seen and still stand for them."""

Refs = tuple[ServiceRef, ...]
Group = frozenset[Who]


class Drawn(NamedTuple):
    """Rules with what they rest on, and the network sets that they need and policy has not."""

    rules: tuple[SuggestedRule, ...]
    networks: tuple[NetworkSet, ...]


class Block(NamedTuple):
    """Cells that one rule means: every source to every destination on the same services."""

    sources: Group
    destinations: Group
    on: Refs


def drawn(found: Cells, people: People, services: Services, name: str) -> Drawn:
    """Write what was learnt as rules of a policy of this name, in a fixed order."""
    ports = _ports(found, services)
    names = _Names(name)
    rules: list[SuggestedRule] = []
    for block in _blocks(ports):
        for source, sources in _ends(block.sources, people, names):
            for destination, destinations in _ends(block.destinations, people, names):
                rule = Rule(
                    names.rule(source, destination, sources, destinations), Action.ALLOW, source, destination, block.on
                )
                rests = _resting(found, sources, destinations, block.on, services)
                opens = _opens(people, sources, destinations, rule, rests, services)
                rules.append(SuggestedRule(rule, evidence(rests), opens))
    return Drawn(tuple(rules), tuple(names.networks[each] for each in sorted(names.networks)))


# Ports → services


def _ports(found: Cells, services: Services) -> dict[tuple[Who, Who], Refs]:
    """Return, for every pair of ends, the services and ports to write."""
    seen: dict[tuple[Who, Who], set[tuple[int, int]]] = {}
    for cell in found.learnt:
        seen.setdefault((cell.source, cell.destination), set()).add((cell.protocol, cell.port))
    return {ends: _refs(ends, ports, found.closed, services) for ends, ports in seen.items()}


def _refs(ends: tuple[Who, Who], ports: set[tuple[int, int]], closed: frozenset[Cell], services: Services) -> Refs:
    named, rest = dict[str, Service](), []
    for protocol, port in sorted(ports):
        service = next(
            (
                each
                for each in services.holding(protocol, port)
                if _beyond(each, ports) <= WIDE and not _shut(each, ends, closed)
            ),
            None,
        )
        if service is None:
            rest.append(Ports(protocol_of(protocol), port, port))
        else:
            named[service.name] = service
    left = [each for each in rest if not any(_within(each, service) for service in named.values())]
    return (*sorted(named), *portset(left).ranges)


def _beyond(service: Service, ports: set[tuple[int, int]]) -> int:
    """Count what a service means beyond ports that were seen; the codes of an ICMP type are one."""
    wide = sum(each.last - each.first + 1 if each.last - each.first != 255 else 1 for each in service.ports)
    return wide - sum(1 for each in ports if any(covers(own, *each) for own in service.ports))


def _shut(service: Service, ends: tuple[Who, Who], closed: frozenset[Cell]) -> bool:
    """Tell whether a service would open something that is left out."""
    return any(
        _meets(ends[0], cell.source) and _meets(ends[1], cell.destination)
        for cell in closed
        if any(covers(ports, cell.protocol, cell.port) for ports in service.ports)
    )


def _meets(one: Who, other: Who) -> bool:
    """Tell whether two kinds of ends may be the same one."""
    same = (one.of, one.network) == (other.of, other.network)
    return same and one.name in ("", other.name) and one.address in ("", other.address)


def _within(ports: Ports, service: Service) -> bool:
    return any(covers(own, ports.protocol, ports.first) for own in service.ports)


# Cells → blocks


def _blocks(ports: dict[tuple[Who, Who], Refs]) -> list[Block]:
    """Put together sources of one app that talk to the same end on the same services, then destinations likewise."""
    sources: dict[tuple[Who, Refs, tuple[object, ...]], set[Who]] = {}
    for (source, destination), on in ports.items():
        sources.setdefault((destination, on, _kin(source)), set()).add(source)
    destinations: dict[tuple[Group, Refs, tuple[object, ...]], set[Who]] = {}
    for (destination, on, _), group in sources.items():
        destinations.setdefault((frozenset(group), on, _kin(destination)), set()).add(destination)
    found = [Block(group, frozenset(others), on) for (group, on, _), others in destinations.items()]
    return sorted(found, key=_order)


def _kin(who: Who) -> tuple[object, ...]:
    """What ends must share to stand in one rule: a side of the scope and an app; networks stand together."""
    return (who.inside, bool(who.network), bool(who.address), who.app, bool(who.name))


def _order(block: Block) -> tuple[object, ...]:
    """What happens within the scope first, then what comes in, then what goes out."""
    within = all(each.inside for each in (*block.sources, *block.destinations))
    inward = all(each.inside for each in block.destinations)
    on = tuple(each if isinstance(each, str) else f"{each.protocol:03}/{each.first:05}" for each in block.on)
    return (not within, not inward, sorted(block.sources), sorted(block.destinations), on)


# Ends


def _ends(group: Group, people: People, names: "_Names") -> Iterator[tuple[End, Group]]:
    one = next(iter(group))
    if one.network:
        yield names.outside(group), group
        return
    for selector, part in people.selectors(group):
        yield Selected(selector, anywhere=not one.inside), part


class _Names:
    """Gives every rule of a policy a name of its own, and names the network sets that it needs."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.networks: dict[str, NetworkSet] = {}
        self._taken: set[str] = set()

    def outside(self, group: Group) -> Networks:
        """Name network sets, or make one of single addresses."""
        addresses = sorted({each.address for each in group if each.address})
        if not addresses:
            return Networks(tuple(sorted({each.network for each in group})))
        prefixes = tuple(sorted(Prefix(f"{each}/{128 if ':' in each else 32}") for each in addresses))
        same = (name for name, known in self.networks.items() if known.cidrs == prefixes)
        name = next(same, None) or _short(f"{self.policy}-seen-{len(self.networks) + 1}")
        self.networks[name] = NetworkSet(name, prefixes)
        return Networks((name,))

    def rule(self, source: End, destination: End, sources: Group, destinations: Group) -> RuleId:
        wanted = name_like(f"{_called(source, sources)}-to-{_called(destination, destinations)}").strip("-.") or "rule"
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = _short(wanted, f"-{number}")
        self._taken.add(name)
        return RuleId(f"{self.policy}/{name}")


def _short(name: str, suffix: str = "") -> str:
    return name[: NAME_LIMIT - len(suffix)].rstrip("-.") + suffix


def _called(end: End, group: Group) -> str:
    """Name an end in a word: its role, else its app, else whatever tells it."""
    if isinstance(end, Networks):
        return "-".join(end.names)
    if names := sorted({each.name for each in group if each.name}):
        return names[0] if len(names) == 1 else f"{names[0]}-and-more"
    first = min(group)
    values = dict(first.of)
    told = [value for value in (values.get("role"), values.get("app")) if value]
    own = told[:1] if first.inside else [*reversed(told)]
    return "-".join(own) or next(iter(values.values()), "all")


# What a rule rests on, and what it opens


def _resting(found: Cells, sources: Group, destinations: Group, on: Refs, services: Services) -> list[Traffic]:
    return [
        traffic
        for cell, every in found.learnt.items()
        if cell.source in sources and cell.destination in destinations and _means(on, cell, services)
        for traffic in every
    ]


def _means(on: Refs, cell: Cell, services: Services) -> bool:
    return any(covers(ports, cell.protocol, cell.port) for ports in services.written(on))


def evidence(found: list[Traffic]) -> Evidence:
    """Return what a rule rests on: some traffic, at least one."""
    seen = total(each.seen for each in found)
    return Evidence(
        flows=len(found),
        connections=seen.connections,
        first=seen.first,
        last=seen.last,
        sources=len({(each.source.workload, each.source.address) for each in found}),
        destinations=len({(each.destination.workload, each.destination.address) for each in found}),
        processes=tuple(sorted({name for each in found for _, name in each.processes})),
    )


def _opens(
    people: People, sources: Group, destinations: Group, rule: Rule, rests: list[Traffic], services: Services
) -> Opens:
    seen = portset(Ports(protocol_of(each.protocol), each.port, each.port) for each in rests)
    return Opens(
        sources=_silent(people, sources, (each.source.workload for each in rests)),
        destinations=_silent(people, destinations, (each.destination.workload for each in rests)),
        networks=tuple(
            sorted({each.network for each in (*sources, *destinations) if each.network and not each.address})
        ),
        on=(portset(services.written(rule.on)) - seen).text(),
    )


def _silent(people: People, group: Group, talked: Iterable[object]) -> tuple[str, ...]:
    """Name the workloads that an end means and that did not talk."""
    heard = set(talked)
    return tuple(sorted(each.name for who in group for each in people.members(who) if each.id not in heard))
