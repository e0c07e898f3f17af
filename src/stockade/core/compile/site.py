"""One host in its world: its intent put together from the snapshot, the rulebook and the population."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain

from stockade.core.compile.addresses import (
    Owners,
    disjoint,
    inside,
    met_at_home,
    met_only_at_home,
    own_addresses,
)
from stockade.core.compile.births import births
from stockade.core.compile.decide import decide
from stockade.core.compile.directory import Enclosed
from stockade.core.compile.gathering import Gathering
from stockade.core.compile.population import Population
from stockade.core.compile.rulebook import Rulebook
from stockade.core.model.ids import Address, Prefix, RuleId, WorkloadId
from stockade.core.model.intent import (
    AddressSet,
    Intent,
    Line,
    LocalEnd,
    PrefixSet,
    Program,
    PublishedPort,
)
from stockade.core.model.inventory import Attachment, Endpoint, Host, Published, Workload, WorkloadKind
from stockade.core.model.net import Ports, Protocol, is_v6
from stockade.core.model.policy import METADATA_SET, PER_HOST_SET, Births, Where
from stockade.core.model.snapshot import Snapshot

LOOPBACKS = (Address("127.0.0.1"), Address("::1"))
JUDGED_HERE = (Attachment.BRIDGED, Attachment.ROUTED, Attachment.HOST)


class Site:
    """One host in its world, while its intent is put together."""

    def __init__(
        self,
        snapshot: Snapshot,
        book: Rulebook,
        population: Population,
        host: Host,
        local: list[Workload],
        shared: Mapping[Address, WorkloadId | None],
        gathering: Gathering,
        inside: Mapping[str, Enclosed],
        fingerprint: str,
    ) -> None:
        """``inside`` tells by name which addresses that hosts share lie in each used network set."""
        self.snapshot = snapshot
        self.book = book
        self.population = population
        self.host = host
        self.local = local
        self.owners = Owners(shared, local)
        self.gathering = gathering
        self.enclosed = inside
        self.fingerprint = fingerprint
        self.births, self.births_where = births(book, snapshot.workloads.get(host.workload))

    def intent(self) -> Intent:
        """Put the intent together."""
        ends = self.ends()
        programs = self.programs(ends)
        lines = [line for program in programs for line in (*program.egress, *program.ingress)]
        networks = self.networks(lines)
        return Intent(
            host=self.host.id,
            revision=self.snapshot.revision,
            version=self.snapshot.version,
            births=self.births,
            births_where=self.births_where,
            ends=ends,
            programs=programs,
            peers=self.peers(lines),
            networks=networks,
            inventory=self.inventory(networks),
            inside=self.inside(),
            interfaces=tuple(sorted(self.host.interfaces)),
            bridges=tuple(sorted(self.host.bridges, key=lambda bridge: bridge.name)),
            published=self.published(ends),
            failsafe=tuple(sorted(self.host.failsafe)),
            rules=self.rules(lines),
            fingerprint=self.fingerprint,
        )

    def ends(self) -> tuple[LocalEnd, ...]:
        """List every endpoint that this host judges, those of unknown workloads included."""
        found = [
            self.end(endpoint, workload)
            for workload in self.local
            for endpoint in workload.seen.endpoints
            if endpoint.attachment in JUDGED_HERE
        ]
        found += [self.end(endpoint, None) for endpoint in self.host.unknown]
        return tuple(sorted(found, key=lambda end: (end.port, end.addresses, end.workload or "")))

    def end(self, endpoint: Endpoint, workload: Workload | None) -> LocalEnd:
        """Describe one endpoint. An address that somebody else claims too is not among its own."""
        own = own_addresses(endpoint)
        program = self.population.program(workload.id) if workload else None
        return LocalEnd(
            workload=workload.id if workload else None,
            name=workload.name if workload else "",
            attachment=endpoint.attachment,
            addresses=tuple(each for each in own if workload and self.owners.of(each) == workload.id),
            port=endpoint.port,
            bridge=endpoint.bridge,
            mac=endpoint.mac,
            program=program.id if program else None,
            asks=asks(endpoint, workload),
        )

    def programs(self, ends: tuple[LocalEnd, ...]) -> tuple[Program, ...]:
        """Collect the programs of local workloads, each once."""
        found = {}
        for end in ends:
            program = self.population.program(end.workload) if end.workload else None
            if program:
                found[program.id] = program
        return tuple(found[each] for each in sorted(found))

    def peers(self, lines: Iterable[Line]) -> tuple[AddressSet, ...]:
        """Write out who the peers of the lines are, by the addresses at which this host meets them."""
        names = {line.peers.name for line in lines if line.peers.name and not line.peers.networks}
        lost = self.owners.yielded | {address for address, owner in self.owners.local.items() if owner is None}
        own = self.met_here_alone()
        found = []
        for name in sorted(names):
            addresses = self.gathering.of(name)
            if lost and not lost.isdisjoint(addresses):
                addresses = tuple(each for each in addresses if each not in lost)
            found.append(AddressSet(name, tuple(sorted((*addresses, *own[name]))) if name in own else addresses))
        return tuple(found)

    def met_here_alone(self) -> dict[str, set[Address]]:
        """Return, by term, the addresses at which no other host meets its workloads."""
        found: defaultdict[str, set[Address]] = defaultdict(set)
        for workload in self.local:
            own = [each for each in met_only_at_home(workload) if self.owners.of(each) == workload.id]
            for name in self.gathering.naming(workload) if own else ():
                found[name].update(own)
        host = self.snapshot.workloads.get(self.host.workload)
        if host is not None and self.host.published:
            for name in self.gathering.naming(host):
                found[name].update(LOOPBACKS)  # by which the host reaches what it publishes
        return dict(found)

    def networks(self, lines: Iterable[Line]) -> tuple[PrefixSet, ...]:
        """Write out the network sets that lines name."""
        names = {line.peers.name for line in lines if line.peers.networks}
        return tuple(PrefixSet(name, prefixes(self.book, self.host, name)) for name in sorted(names))

    def inventory(self, networks: tuple[PrefixSet, ...]) -> tuple[Address, ...]:
        """List workload addresses that lie inside a used network set, and so never match it."""
        used = [ipaddress.ip_network(prefix) for each in networks for prefix in each.prefixes]
        if not used:
            return ()
        strangers = (address for endpoint in self.host.unknown for address in own_addresses(endpoint))
        shared = chain.from_iterable(self.enclosed[each.name].addresses for each in networks)
        claimed = {*shared, *self.owners.local, *strangers}
        return tuple(sorted(address for address in claimed if inside(address, used)))

    def inside(self) -> tuple[Prefix, ...]:
        """List the subnets of this host's bridges: an address there is a workload's or nobody's."""
        return disjoint((subnet for bridge in self.host.bridges for subnet in bridge.subnets), ())

    def published(self, ends: tuple[LocalEnd, ...]) -> tuple[PublishedPort, ...]:
        """Describe the ports of this host that lead to a workload, with the local senders that may go there."""
        found = []
        for port in self.host.published:
            target = self.behind(port)
            program = self.population.program(target.id) if target else None
            found.append(
                PublishedPort(
                    protocol=port.protocol,
                    port=port.port,
                    addresses=tuple(
                        sorted(at for at in self.doors(port) if self.through(port.protocol, at, port.port) is port)
                    ),
                    to_address=port.to_address,
                    to_port=port.to_port,
                    program=program.id if program else None,
                    senders=self.senders(port, target, ends),
                    proxied=port.proxied,
                    held=program is None and self.births is Births.HOLD and self.unlabelled(port, target),
                )
            )
        return tuple(sorted(found, key=lambda each: (each.protocol, each.port, each.addresses)))

    def behind(self, port: Published) -> Workload | None:
        """Return the workload of this host behind a published port; None where the address is nobody's or elsewhere."""
        owner = self.owners.of(port.to_address)
        return next((each for each in self.local if each.id == owner), None)

    def unlabelled(self, port: Published, target: Workload | None) -> bool:
        """Tell whether an endpoint of this host is behind a published port, and nobody has labelled it."""
        if target is not None or self.owners.claimed(port.to_address):
            return target is not None and not target.known and target.id != self.host.workload
        return any(port.to_address in own_addresses(each) for each in self.host.unknown)

    def doors(self, port: Published) -> tuple[Address, ...]:
        """Return the addresses at which a published port is met."""
        if port.address:
            return (Address(port.address),)
        host = self.snapshot.workloads.get(self.host.workload)
        return (*dict.fromkeys(met_at_home(host)), *LOOPBACKS) if host else LOOPBACKS

    def through(self, protocol: Protocol, address: Address, number: int) -> Published:
        """Return what one address's port leads to: what names the address, else what is of its family, else any."""
        means = [
            each
            for each in self.host.published
            if (each.protocol, each.port) == (protocol, number) and address in self.doors(each)
        ]
        return min(means, key=lambda each: (each.address == "", is_v6(each.to_address) != is_v6(address)))

    def senders(self, port: Published, target: Workload | None, ends: tuple[LocalEnd, ...]) -> tuple[Address, ...]:
        """Return the addresses of the local endpoints whose own end lets them reach a published workload."""
        wanted = Ports(port.protocol, port.to_port, port.to_port)
        found: set[Address] = set()
        for end in ends:
            program = self.population.program(end.workload) if end.workload else None
            if program is None or self.sends(program, target, wanted):
                found.update(end.addresses)
                found.update(LOOPBACKS if end.attachment is Attachment.HOST else ())
        return tuple(sorted(found))

    def sends(self, program: Program, target: Workload | None, wanted: Ports) -> bool:
        """Tell whether a program lets a connection out to a workload's port."""
        return decide(program, program.egress, lambda line: self.matches(line, target, wanted))

    def matches(self, line: Line, target: Workload | None, wanted: Ports) -> bool:
        """Tell whether a line of a program speaks of this workload's port."""
        if line.ports and not any(
            each.protocol is wanted.protocol and each.first <= wanted.first <= each.last for each in line.ports
        ):
            return False
        if not line.peers.name:
            return True
        if line.peers.networks or target is None:
            return False
        return self.population.means(self.book.terms[line.peers.name], target)

    def rules(self, lines: Iterable[Line]) -> tuple[tuple[RuleId, Where], ...]:
        """Tell where each rule that counts here was written."""
        used = sorted({line.rule for line in lines})
        return tuple((rule, self.book.wheres[rule]) for rule in used)


def prefixes(book: Rulebook, host: Host, names: str) -> tuple[Prefix, ...]:
    """Return the prefixes of network sets (names joined by commas) as a host sees them, disjoint.

    Metadata addresses are only in the set of that name; ``resolvers`` are the host's own unless a document says more.
    """
    found: list[Prefix] = []
    metadata = book.networks.get(METADATA_SET)
    for name in names.split(","):
        network = book.networks.get(name)
        cidrs = network.cidrs if network else ()
        if name == PER_HOST_SET and not cidrs:
            cidrs = tuple(Prefix(f"{each}/{128 if ':' in each else 32}") for each in host.resolvers)
        holes = network.excepted if network else ()
        if name != METADATA_SET and metadata:
            holes = (*holes, *metadata.cidrs)
        found += disjoint(cidrs, holes)
    return disjoint(found, ())


def asks(endpoint: Endpoint, workload: Workload | None) -> bool:
    """Tell whether an endpoint asks its link for its address: a virtual machine's on a bridge does."""
    a_machine = workload is not None and workload.seen.kind is WorkloadKind.VM
    return a_machine and endpoint.attachment is Attachment.BRIDGED
