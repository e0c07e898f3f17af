"""The judgement of a connection at its local ends: maps from address to program, and the way through them.

``judge_c`` and ``judge_p`` are entered with ``goto`` from a base chain, for tracked and untracked packets. What is
essential passes first; then the source's program, if it is local, is called, then the destination's; then ``pass``.
A program that lets a packet by returns and never leads on: older kernels check every way through the chains at each
transaction, and the ways through one program would be multiplied by those through the next. The same chains serve the
inet family and, where a bridge is judged there, the bridge family.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from stockade.core.compile.decide import closed, enforces
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.programs import (
    BY_MODE,
    REFUSED,
    WOULD_REFUSE,
    ProgramChains,
    known_networks,
    large_peers,
    network_name,
    program_chains,
)
from stockade.core.compile.nft.recording import Said, dropped, onward, prefix
from stockade.core.compile.nft.rule import counter, rule
from stockade.core.compile.nft.ruleset import Chain, ElementSet
from stockade.core.compile.nft.view import CONNECTION, FAMILIES, NAMES, VIEWS, View
from stockade.core.compile.text import digest
from stockade.core.model.ids import Address, ProgramId
from stockade.core.model.intent import Intent, LocalEnd, Program, PublishedPort
from stockade.core.model.inventory import Attachment
from stockade.core.model.net import PORTED, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode

MET = "met"
"""Counts connections met in the middle, once each: who saw none lately need not look for them."""
COUNTERS = (REFUSED, WOULD_REFUSE, "invalid", "midstream", "forged", "held", "unjudged", MET)
SYN = "tcp flags & (fin|syn|rst|ack) == syn"
NOT_SYN = "tcp flags & (fin|syn|rst|ack) != syn"
DISCOVERY = "icmpv6 type { 133, 134, 135, 136 } ip6 hoplimit 255"
"""Neighbour discovery, which no router passes on: with any other hop limit it has crossed one (RFC 4861, 7.1)."""
LISTENERS = "icmpv6 type { 130, 131, 132, 143 } ip6 daddr ff00::/8"
"""Multicast listener discovery, to a group: to anybody else it would be a way to talk (RFC 2710, 3810)."""
MEMBERSHIP = "ip protocol 2 ip daddr 224.0.0.0/4"
"""IGMP, likewise (RFC 2236, 3376)."""
LOOPBACKS = ("127.0.0.1", "::1")
FORGED = dropped("forged", Direction.INGRESS)
FORWARDED_FOR = "10s"
"""How long after a packet of a published connection's first leg the proxy may open the second."""


def address_type(family: int) -> str:
    """Return nft's type name of a family's addresses."""
    return "ipv4_addr" if family == 4 else "ipv6_addr"


def of_family(addresses: Iterable[str], family: int) -> frozenset[str]:
    """Return the addresses or prefixes of one family."""
    return frozenset(each for each in addresses if (":" in each) == (family == 6))


REMEMBERED = 4096
"""Ends of whose addresses is remembered what is said of them."""


@lru_cache(REMEMBERED)
def apart(addresses: tuple[Address, ...]) -> Mapping[int, tuple[Address, ...]]:
    """Return an end's addresses by family. An end has the same in one intent after the other."""
    return {family: tuple(each for each in addresses if (":" in each) == (family == 6)) for family in FAMILIES}


@lru_cache(REMEMBERED)
def _pairs(addresses: tuple[Address, ...]) -> tuple[str, ...]:
    return tuple(f"{one} . {other}" for one in addresses for other in addresses)


class Judging:
    """Sets, counters and chains that judge connections for one host. No base chains: hooks lead here."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.programs = {program.id: program for program in intent.programs}
        known, large = known_networks(intent.networks), large_peers(intent.peers)
        self.compiled: dict[tuple[ProgramId, Direction, str], ProgramChains] = {
            (program.id, way, view.letter): program_chains(program, way, view, known, large)
            for program in intent.programs
            if self._speaks(program.id)
            for way in Direction
            for view in VIEWS
        }
        self.here = [end for end in intent.ends if end.program]
        self._held = {family: _held(self.here, family) for family in FAMILIES}
        """Addresses here by family and by the program that judges them: programs are few, ends are many."""
        self.published = [(port, "pub_" + digest(repr(port))) for port in intent.published]
        self.legs = {leg: "leg_" + digest(repr((leg, ports))) for leg, ports in _legs(intent.published).items()}
        self.telling: dict[str, Chain] = {}
        self.host_known = any(end.attachment is Attachment.HOST for end in self.here)

    def sets(self) -> dict[str, ElementSet]:
        """Return every set and map that judging looks at."""
        found: dict[str, ElementSet] = {}
        for family in FAMILIES:
            found |= self._maps(family) | self._ends(family) | self._networks(family) | self._published_sets(family)
            found |= self._peers(family)
        return found

    def counters(self) -> frozenset[str]:
        """Return every counter that a rule of ours names."""
        found = set(COUNTERS)
        for program in self.programs.values():
            for line in (*program.egress, *program.ingress):
                found |= {counter(line.rule), counter(line.rule, would=True)}
        return frozenset(found)

    def chains(self) -> dict[str, Chain]:
        """Return every regular chain of the judgement."""
        found = {name: chain for each in self.compiled.values() for name, chain in each.chains.items()}
        for view in VIEWS:
            found[f"judge_{view.letter}"] = _chain(self._judge(view))
            found[f"egress_{view.letter}"] = _chain(self._dispatch(view, "source", "egress"))
            found[f"ingress_{view.letter}"] = _chain(self._dispatch(view, "destination", "ingress"))
            found[f"refuse_{view.letter}"] = _chain(self._refuse(view))
            found[f"pass_{view.letter}"] = _chain(self._pass(view))
        found["midstream"] = _chain(self._midstream())
        found["strange"] = _chain(self._strange())
        found["lasting"] = _chain(self._lasting())
        found["forged_in"] = _chain(self._forged_in())
        found["forged_up"] = _chain(self._forged_up())
        for port, name in self.published:
            found[name] = _chain(self._published(port))
            if port.proxied:
                found[f"note_{name}"] = _chain(self._note(port))
        found |= self.telling
        for leg, name in self.legs.items():
            found[name] = _chain(self._leg(leg, name))
        return found

    def enforced(self, end: LocalEnd) -> bool:
        """Tell whether anything may be dropped at an end by rule, mode or quarantine."""
        return end.program is not None and enforces(self.programs[end.program])

    def closed(self, end: LocalEnd) -> bool:
        """Tell whether an end refuses strangers."""
        return end.program is not None and closed(self.programs[end.program])

    # sets

    def _speaks(self, program: ProgramId) -> bool:
        """An idle program without quarantine lines says nothing: no chain, no map element."""
        found = self.programs[program]
        return found.mode is not Mode.IDLE or bool(found.egress or found.ingress)

    def _maps(self, family: int) -> dict[str, ElementSet]:
        found = {}
        for view in VIEWS:
            for way in Direction:
                elements = frozenset(
                    f"{address} : goto {chains.entry}"
                    for program, addresses in self._held[family].items()
                    if (chains := self.compiled.get((program, way, view.letter)))
                    for address in addresses
                )
                name = f"{way.value}_{view.letter}{family}"
                found[name] = ElementSet(address_type(family), data="verdict", elements=elements)
        return found

    def _ends(self, family: int) -> dict[str, ElementSet]:
        """Sets of local addresses by what their ends do."""
        groups: dict[str, Callable[[Program], bool]] = {
            f"enforced{family}": enforces,
            f"closed{family}": closed,
            f"cut{family}": lambda program: program.quarantined,
            f"local{family}": lambda _: True,
        }
        found = {
            name: ElementSet(
                address_type(family),
                elements=frozenset(chain(*(own for of, own in self._held[family].items() if are(self.programs[of])))),
            )
            for name, are in groups.items()
        }
        host = [a for end in self.intent.ends if end.attachment is Attachment.HOST for a in end.addresses]
        loopback = {4: "127.0.0.0/8", 6: "::1/128"}[family]
        outer = of_family((a for a in host if not a.startswith("127.") and a != "::1"), family)
        found[f"host{family}"] = ElementSet(
            address_type(family), flags=("interval",), elements=frozenset({*outer, loopback.removesuffix("/128")})
        )
        found[f"self{family}"] = ElementSet(
            f"{address_type(family)} . {address_type(family)}", elements=frozenset(self._selves(family))
        )
        failsafe = frozenset(
            f"{each.source} . {each.port}" for each in self.intent.failsafe if of_family([each.source], family)
        )
        found[f"failsafe{family}"] = ElementSet(f"{address_type(family)} . inet_service", elements=failsafe)
        return found

    def _selves(self, family: int) -> Iterator[str]:
        """Pairs of addresses of one workload; the host's own are told by set, there may be many."""
        own: dict[str, tuple[Address, ...]] = {}
        for end in self.here:
            if end.attachment is not Attachment.HOST:
                workload = end.workload or ""
                own[workload] = own.get(workload, ()) + apart(end.addresses)[family]
        for addresses in own.values():
            yield from _pairs(addresses)

    def _networks(self, family: int) -> dict[str, ElementSet]:
        kind = address_type(family)
        found = {
            f"{network_name(each.name)}_{family}": ElementSet(
                kind, flags=("interval",), elements=of_family(map(_plain, each.prefixes), family)
            )
            for each in self.intent.networks
        }
        found[f"inventory{family}"] = exact(family, self.intent.inventory)
        inside = of_family(map(_plain, self.intent.inside), family)
        found[f"inside{family}"] = ElementSet(kind, flags=("interval",), elements=inside)
        return found

    def _peers(self, family: int) -> dict[str, ElementSet]:
        """Sets of those of whom lines speak, and of all of whom a block of lines does."""
        found = {f"{peers.name}_{family}": exact(family, peers.addresses) for peers in self.intent.peers}
        together = {name: several for each in self.compiled.values() for name, several in each.together.items()}
        for name, several in together.items():
            elements = frozenset[str]().union(*(found[f"{each}_{family}"].elements for each in several))
            found[f"{name}_{family}"] = ElementSet(address_type(family), elements=elements)
        return found

    def _published_sets(self, family: int) -> dict[str, ElementSet]:
        found = {}
        kind = f"{address_type(family)} . inet_service"
        for protocol in {port.protocol for port, _ in self.published}:
            at = [(port, name) for port, name in self.published if port.protocol is protocol]
            keys = [
                (f"{address} . {port.port}", name) for port, name in at for address in of_family(port.addresses, family)
            ]
            tail = f"{NAMES[protocol]}{family}"
            found[f"published_{tail}"] = ElementSet(
                kind, data="verdict", elements=frozenset(f"{key} : goto {name}" for key, name in keys)
            )
            proxied = {name for port, name in at if port.proxied}
            found[f"noted_{tail}"] = ElementSet(
                kind,
                data="verdict",
                elements=frozenset(f"{key} : goto note_{name}" for key, name in keys if name in proxied),
            )
            closed_ports = [
                f"{address} . {port.port}"
                for port, _ in at
                if port.held or (port.program and closed(self.programs.get(port.program)))
                for address in of_family(port.addresses, family)
            ]
            found[f"pubclosed_{tail}"] = ElementSet(kind, elements=frozenset(closed_ports))
        for name in self.legs.values():
            found[f"{name}_{family}"] = ElementSet(kind, flags=("dynamic", "timeout"), dynamic=True)
        for protocol in {leg.protocol for leg in self.legs}:
            legs = frozenset(
                f"{leg.to_address} . {leg.to_port} : jump {name}"
                for leg, name in self.legs.items()
                if leg.protocol is protocol and of_family([leg.to_address], family)
            )
            found[f"legs_{NAMES[protocol]}{family}"] = ElementSet(kind, data="verdict", elements=legs)
        for port, name in self.published:
            found[f"{name}_{family}"] = exact(family, port.senders)
            found[f"{name}_own{family}"] = exact(family, self._owner(port))
        return found

    def _owner(self, port: PublishedPort) -> tuple[str, ...]:
        target = next((end.workload for end in self.here if port.to_address in end.addresses), None)
        return tuple(address for end in self.here if end.workload == target for address in end.addresses)

    # chains

    def _judge(self, view: View) -> Iterator[str]:
        tracked = view is CONNECTION
        if tracked:
            yield rule(f"ct state new {NOT_SYN} jump midstream")
            yield rule(
                f"ct state related meta l4proto {{ icmp, icmpv6 }} ct mark & {MARKS.admitted:#010x} != 0 goto pass_p"
            )
            yield rule("ct state related meta l4proto { icmp, icmpv6 } goto strange")
        else:
            yield rule(f"{DISCOVERY} goto pass_p")
            yield rule(f"{LISTENERS} goto pass_p")
        yield rule(f"{MEMBERSHIP} goto pass_p")
        if tracked:
            yield from self._lookups(view, "published")
        for family in FAMILIES:
            source, destination = view.at("source", family), view.at("destination", family)
            yield rule(f"{source} . {destination} @self{family} goto pass_{view.letter}")
            yield rule(f"{source} @host{family} {destination} @host{family} goto pass_{view.letter}")
            yield rule(
                f"{destination} @host{family} meta l4proto tcp {source} . {view.port} @failsafe{family} "
                f"goto pass_{view.letter}"
            )
        if tracked:
            yield from self._second_leg()
        yield rule(f"jump egress_{view.letter}")
        yield rule(f"jump ingress_{view.letter}")
        yield rule(f"goto pass_{view.letter}")

    def _second_leg(self) -> Iterator[str]:
        """A proxy's second leg, once begun, goes on as long as its first leg does.

        Under the workload's quarantine only while that is spared.
        """
        begun = f"ct mark & {MARKS.proxied:#010x} != 0"
        for protocol in sorted({leg.protocol for leg in self.legs}):
            for family in FAMILIES:
                to = f"meta l4proto {NAMES[protocol]} {CONNECTION.at('destination', family)}"
                yield rule(f"{to} != @cut{family} {begun} goto pass_c")
                yield rule(f"{begun} {to} . {CONNECTION.port} vmap @legs_{NAMES[protocol]}{family}")

    def begins_second_leg(self) -> Iterator[str]:
        """A proxy's second leg begins where its first was just judged.

        For what this host sends alone: whose addresses it speaks from is then no question, be they claimed by others
        too. A proxy connects to the workload itself; what is translated on its way there is no proxy's.
        """
        for protocol in sorted({leg.protocol for leg in self.legs}):
            beginning = f"ct state new {SYN}" if protocol is Protocol.TCP else "ct state new"
            for family, ip in ((4, "ip"), (6, "ip6")):
                to = f"meta l4proto {NAMES[protocol]} ct original {ip} daddr . ct original proto-dst"
                yield rule(f"{beginning} {to} vmap @legs_{NAMES[protocol]}{family}")

    def _leg(self, leg: "Leg", name: str) -> Iterator[str]:
        """Whether a first leg was let pass lately, in this very program's time."""
        for family in FAMILIES:
            at = f"meta l4proto {NAMES[leg.protocol]} {CONNECTION.at('destination', family)} . {CONNECTION.port}"
            proxied = f"ct mark set ct mark | {MARKS.proxied:#010x}"
            yield rule(f"ct state new {at} @{name}_{family} {proxied} goto pass_c")
            yield rule(f"ct mark & {MARKS.proxied:#010x} != 0 {at} @{name}_{family} goto pass_c")

    def _lookups(self, view: View, name: str) -> Iterator[str]:
        """Verdict maps from (host's address, published port); none where nothing is published."""
        for protocol in sorted({port.protocol for port, _ in self.published}):
            for family in FAMILIES:
                key = f"{view.at('destination', family)} . {view.port}"
                yield rule(f"meta l4proto {NAMES[protocol]} {key} vmap @{name}_{NAMES[protocol]}{family}")

    def _dispatch(self, view: View, end: str, way: str) -> Iterator[str]:
        for family in FAMILIES:
            yield rule(f"{view.at(end, family)} vmap @{way}_{view.letter}{family}")
        yield from self._nowhere(view, way)

    def _nowhere(self, view: View, way: str) -> Iterator[str]:
        """A packet may wait for its next hop's link address until somebody is born at the address it goes to."""
        mark = f"meta mark set meta mark | {MARKS.nowhere:#010x}"
        if view is CONNECTION:
            yield rule(f"ct direction {'reply' if way == 'egress' else 'original'} {mark}")
        elif way == "ingress":
            yield rule(mark)

    def _refuse(self, view: View) -> Iterator[str]:
        """What is refused is no longer admitted, so that no ICMP error about it passes either."""
        if view is CONNECTION:
            yield rule(
                f"ct mark & {MARKS.admitted:#010x} != 0 ct mark set ct mark & {~MARKS.admitted & 0xFFFFFFFF:#010x}"
            )
        yield rule("drop")

    def _pass(self, view: View) -> Iterator[str]:
        if view is CONNECTION:
            yield from self._lookups(view, "noted")
            yield rule(f"meta mark & {MARKS.keeping:#010x} != 0 ct mark set ct mark | {MARKS.kept:#010x}")
            yield rule(f"ct mark & {MARKS.admitted:#010x} == 0 ct mark set ct mark | {MARKS.admitted:#010x}")
        yield rule(f"meta mark set meta mark | {MARKS.judged:#010x} accept")

    def _midstream(self) -> Iterator[str]:
        """A TCP packet that is no SYN and belongs to nothing: refused where ends enforce, else of unknown direction."""
        yield from self._refused_by_ends("midstream")
        yield rule(f"counter name {MET} ct mark set ct mark | {MARKS.older:#010x}")

    def _strange(self) -> Iterator[str]:
        """Invalid packets, and errors about connections that are not admitted."""
        yield from self._refused_by_ends("invalid")
        yield rule("goto pass_p")

    def _refused_by_ends(self, counted: str) -> Iterator[str]:
        for family, ip in ((4, "ip"), (6, "ip6")):
            yield rule(f"{ip} saddr @enforced{family} {dropped(counted, Direction.EGRESS)}")
            yield rule(f"{ip} daddr @enforced{family} {dropped(counted, Direction.INGRESS)}")

    def _forged_in(self) -> Iterator[str]:
        """The sender counts as unknown: ends that refuse strangers drop it."""
        yield from self._unless_it_lasts()
        yield from self._forged_at_doors()
        for family, ip in ((4, "ip"), (6, "ip6")):
            yield rule(f"{ip} daddr @closed{family} {FORGED}")
            midstream = dropped("midstream", Direction.INGRESS)
            yield rule(f"ct state new {NOT_SYN} {ip} daddr @enforced{family} {midstream}")
        yield rule("goto pass_p")

    def _forged_up(self) -> Iterator[str]:
        """The same at a host that refuses strangers: what it publishes is for the workload behind to refuse."""
        yield from self._unless_it_lasts()
        yield from self._forged_at_doors()
        yield rule(FORGED)

    def _unless_it_lasts(self) -> Iterator[str]:
        """An endpoint that nobody has labelled any more, as itself, along a connection from before or a proxy's."""
        yield rule(
            f"meta mark & {MARKS.itself:#010x} != 0 ct state != new ct mark & {MARKS.lasting:#010x} != 0 goto lasting"
        )

    def _lasting(self) -> Iterator[str]:
        """Judged as any other connection, save that nothing is essential: no session of such an endpoint is."""
        yield from self._lookups(CONNECTION, "published")
        yield from self._second_leg()
        yield rule("jump egress_c")
        yield rule("jump ingress_c")
        yield rule("goto pass_c")

    def _forged_at_doors(self) -> Iterator[str]:
        for protocol in sorted({port.protocol for port, _ in self.published}):
            for family, ip in ((4, "ip"), (6, "ip6")):
                name = NAMES[protocol]
                at = f"meta l4proto {name} {ip} daddr . {name} dport"
                yield rule(f"{at} @pubclosed_{name}{family} {FORGED}")
                yield rule(f"{at} vmap @noted_{name}{family}")

    def _published(self, port: PublishedPort) -> Iterator[str]:
        """A connection to a published port is judged as one to the workload behind it, already at the host's input."""
        name = next(each for candidate, each in self.published if candidate is port)
        refused = f"counter name {REFUSED} {self._told(Direction.EGRESS, BY_MODE)}"
        for family in FAMILIES:
            source = CONNECTION.at("source", family)
            yield rule(f"{source} @{name}_own{family} goto pass_c")
            yield rule(f"{source} @local{family} {source} != @{name}_{family} {refused}")
            if self.host_known and not any(each in LOOPBACKS for each in port.senders):
                yield rule(f"{source} @host{family} {refused}")
        chains = self.compiled.get((port.program or ProgramId(""), Direction.INGRESS, "c"))
        if port.held:
            yield rule(f"counter name held {self._told(Direction.INGRESS, 'held')}")
            return
        if chains and port.protocol in PORTED:
            yield rule(f"jump {chains.slice_for(port.protocol, port.to_port)}")
        yield rule("goto pass_c")

    def _told(self, way: Direction, by: str) -> str:
        """Refuse a connection that no rule decided about, and tell of it."""
        return onward(CONNECTION, prefix(way, Said.DENIED, by, own=True), self.telling, refused=True)

    def _note(self, port: PublishedPort) -> Iterator[str]:
        """Let the proxy open its second leg for a little while."""
        family = 6 if ":" in port.to_address else 4
        key = f"{port.to_address} . {port.to_port} timeout {FORWARDED_FOR}"
        yield rule(f"meta l4proto {NAMES[port.protocol]} update @{self.legs[_leg_of(port)]}_{family} {{ {key} }}")
        yield rule(f"meta mark & {MARKS.keeping:#010x} != 0 ct mark set ct mark | {MARKS.kept:#010x}")
        yield rule(f"ct mark & {MARKS.admitted:#010x} == 0 ct mark set ct mark | {MARKS.admitted:#010x}")
        yield rule(f"meta mark set meta mark | {MARKS.judged:#010x} accept")


class Leg(NamedTuple):
    """A proxy's way inwards. What opens it is forgotten when who may come changes: the name of its set does then."""

    protocol: Protocol
    to_address: str
    to_port: int


def _leg_of(port: PublishedPort) -> Leg:
    return Leg(port.protocol, port.to_address, port.to_port)


def _legs(published: Iterable[PublishedPort]) -> dict[Leg, list[PublishedPort]]:
    found: dict[Leg, list[PublishedPort]] = {}
    for port in published:
        if port.proxied:
            found.setdefault(_leg_of(port), []).append(port)
    return found


def _held(ends: Iterable[LocalEnd], family: int) -> dict[ProgramId, list[Address]]:
    found: dict[ProgramId, list[Address]] = {}
    for end in ends:
        if end.program:
            found.setdefault(end.program, []).extend(apart(end.addresses)[family])
    return found


def of_ends(ends: Iterable[LocalEnd], family: int) -> ElementSet:
    """Return a hash set of the addresses that ends have in one family."""
    addresses = frozenset(address for end in ends for address in apart(end.addresses)[family])
    return ElementSet(address_type(family), elements=addresses)


def exact(family: int, addresses: Iterable[str]) -> ElementSet:
    """Return a hash set of the addresses of one family."""
    return ElementSet(address_type(family), elements=of_family(addresses, family))


def _plain(prefix: str) -> str:
    """A prefix of one address reads back as that address."""
    return prefix.removesuffix("/128") if ":" in prefix else prefix.removesuffix("/32")


def _chain(rules: Iterable[str]) -> Chain:
    return Chain(rules=tuple(rules))
