"""``verdict(snapshot, packet)``: what shall become of one packet at one host, and why.

Written from ``docs/policy.md`` alone, slow and obvious; judged against it is everything that Stockade enforces.
Judges Stockade only: another table's drop is not seen here. Judges the ends at ``packet.host`` only.
"""

from ipaddress import ip_address
from typing import NamedTuple

from stockade.core.model.ids import RuleId, WorkloadId
from stockade.core.model.inventory import Host, Workload
from stockade.core.model.net import Protocol
from stockade.core.model.packet import Direction, Judgement, Layer, Packet, PacketState, Verdict
from stockade.core.model.policy import (
    Action,
    Births,
    Mode,
    Networks,
    Policy,
    Quarantine,
    QuarantineException,
    Rule,
    Selected,
    Where,
)
from stockade.core.model.policy import (
    End as RuleEnd,
)
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle.ends import (
    CARRIED,
    IGMP,
    MEMBERSHIP,
    NEIGHBOURS,
    End,
    Meeting,
    asks,
    meet,
    nameless,
    reversed_packet,
)
from stockade.core.oracle.matching import asks_for_trust, in_network_set, on, selects
from stockade.core.oracle.modes import ENFORCING, births, deciding_mode, enforced, mode, quarantines

ESTABLISHED = (PacketState.ORIGINAL, PacketState.REPLY, PacketState.RELATED)
STRAY = (PacketState.INVALID, PacketState.MIDSTREAM)
ROUTER_ADVERTISEMENT = 134


class Cut(NamedTuple):
    """What a quarantine says: cut off, or spared by an exception."""

    by: Quarantine
    spared: bool = False


def verdict(snapshot: Snapshot, packet: Packet) -> Verdict:
    """Judge a packet at its host: it passes when every end that judges it there says yes.

    A host without an agent judges nothing. A connection older than tracking has no known direction: either will do.
    """
    host = snapshot.hosts.get(packet.host)
    if host is None:
        return Verdict(True)
    said = _Court(snapshot, host, packet).verdict()
    if said.allowed or not packet.older:
        return said
    other_way = _Court(snapshot, host, reversed_packet(packet)).verdict()
    return other_way if other_way.allowed else said


def received(snapshot: Snapshot, packet: Packet, receiver: WorkloadId) -> bool:
    """Tell whether a workload of this host gets a packet to a group or to everybody.

    Its sender's end is judged by ``verdict`` (a network set may name the group); no rule speaks of the receiver's end,
    so that ``full`` and quarantine never let it in, unless it is essential.
    """
    if not verdict(snapshot, packet).allowed:
        return False
    court = _Court(snapshot, snapshot.hosts[packet.host], packet)
    workload = snapshot.workloads[receiver]
    if court.essential():
        return True
    if not workload.known:
        return not court.holds()
    return mode(snapshot, workload) is not Mode.FULL and not quarantines(snapshot, workload)


class _Court:
    """One packet before one host."""

    def __init__(self, snapshot: Snapshot, host: Host, packet: Packet) -> None:
        self.snapshot = snapshot
        self.host = host
        self.met: Meeting = meet(snapshot, host, packet)
        self.packet = self.met.packet

    def verdict(self) -> Verdict:
        source, destination = self.met.source, self.met.destination
        at_the_port = self.forged() or self.held() or self.astray() or self.estranged()
        ends = (
            (at_the_port,)
            if at_the_port
            else (
                self.end(Direction.EGRESS, source, destination),
                self.end(Direction.INGRESS, destination, source),
            )
        )
        said = tuple(each for each in ends if each is not None)
        return Verdict(all(each.allowed for each in said), said, _id(source.workload), _id(destination.workload))

    def forged(self) -> Judgement | None:
        """An endpoint under enforcement sends as itself, and never as a router or a DHCP server."""
        entered = self.met.entered
        if entered is None or entered.known is None or not enforced(self.snapshot, entered.known):
            return None
        if not self.met.forged and not self.offers_configuration():
            return None
        return Judgement(self.sending_end(), entered.known.id, False, Layer.FORGED)

    def held(self) -> Judgement | None:
        """What comes by the port of an endpoint that nobody has labelled yet waits, where the host holds births."""
        entered = self.met.entered
        if entered is None or entered.known or self.essential() or not self.holds():
            return None
        return Judgement(self.sending_end(), _id(entered.workload), False, Layer.HELD)

    def astray(self) -> Judgement | None:
        """Nothing is delivered where its destination does not live, if either of the two is under enforcement.

        Behind the port of an endpoint that nobody has labelled yet nobody lives, as far as is known.
        """
        leaving, source, receiver = self.met.leaving, self.met.source, self.met.destination
        if self.packet.state is PacketState.REPLY:
            source, receiver = receiver, source
        if leaving is None:
            return None
        if leaving.known is None:
            if not self.holds() or self.essential():
                return None
            return Judgement(self.receiving_end(), _id(leaving.workload), False, Layer.HELD)
        if asks(leaving) and self.gives_address() and not self.met.forged:
            return None
        careful = (leaving.known, *((receiver.known, source.known) if receiver.here and receiver.known else ()))
        if not self.met.astray or not any(each and enforced(self.snapshot, each) for each in careful):
            return None
        return Judgement(self.receiving_end(), leaving.known.id, False, Layer.FORGED)

    def estranged(self) -> Judgement | None:
        """A host that refuses strangers hears none at any address of its own, be it claimed by others as well."""
        entered, answered = self.met.entered, self.packet.state is PacketState.REPLY
        receiver = self.met.source if answered else self.met.destination
        stranger = self.met.forged or (entered is not None and entered.known is None)
        itself = self.snapshot.workloads.get(self.host.workload)
        if not (stranger and receiver.contested and itself) or self.essential():
            return None
        if quarantines(self.snapshot, itself):
            return Judgement(self.receiving_end(), itself.id, False, Layer.QUARANTINE)
        refuses = mode(self.snapshot, itself) is Mode.FULL
        return Judgement(self.receiving_end(), itself.id, False, Layer.MODE) if refuses else None

    def receiving_end(self) -> Direction:
        return Direction.EGRESS if self.packet.state is PacketState.REPLY else Direction.INGRESS

    def holds(self) -> bool:
        return births(self.snapshot, self.host.id) is Births.HOLD

    def sending_end(self) -> Direction:
        return Direction.INGRESS if self.packet.state is PacketState.REPLY else Direction.EGRESS

    def end(self, direction: Direction, mine: End, other: End) -> Judgement | None:
        """Judge at one end; None where that end judges nothing."""
        if not mine.here:
            return None
        if self.essential():
            return Judgement(direction, _id(mine.workload), True, Layer.ESSENTIAL)
        if mine.known is None:
            # Nobody has labelled it: no rule speaks of it, and only the host's own setting can hold it.
            # The host itself is never held: nobody could label anything any more.
            held = self.holds() and not mine.own
            return Judgement(direction, _id(mine.workload), False, Layer.HELD) if held else None
        return self.ladder(direction, mine.known, mine, other)

    def ladder(self, direction: Direction, workload: Workload, mine: End, other: End) -> Judgement:
        """The first layer that applies decides."""

        def says(allowed: bool, layer: Layer, rule: RuleId | None = None, where: Where | None = None) -> Judgement:
            return Judgement(direction, workload.id, allowed, layer, rule, where)

        # A packet of no connection cannot be judged by who began it.
        if self.packet.state in STRAY and enforced(self.snapshot, workload):
            return says(False, Layer.INVALID)
        # Quarantine cuts in every mode.
        if (cut := self.quarantine(direction, mine, other)) is not None:
            return says(cut.spared, Layer.QUARANTINE, RuleId(f"quarantine/{cut.by.name}"), cut.by.where)
        # Rules decide only where the mode enforces.
        given = deciding_mode(self.snapshot, workload)
        default = says(mode(self.snapshot, workload) is not Mode.FULL, Layer.MODE, where=given.where if given else None)
        if mode(self.snapshot, workload) not in ENFORCING:
            return default
        # No allow opens what this closes.
        if closed := self.rule(Action.OVERRIDE_DENY, direction, workload, other):
            return says(False, Layer.OVERRIDE_DENY, closed.id, closed.where)
        if opened := self.rule(Action.ALLOW, direction, workload, other):
            return says(True, Layer.ALLOW, opened.id, opened.where)
        # ``established: keep`` outlives the allow that admitted the connection, and yields to nothing weaker. What was
        # let in is a connection of those two: a frame that only pretends to come from one of them is not of it.
        if self.packet.kept and self.packet.state in ESTABLISHED and not self.met.forged:
            return says(True, Layer.KEPT)
        if denied := self.rule(Action.DENY, direction, workload, other):
            return says(False, Layer.DENY, denied.id, denied.where)
        return default

    # Essential

    def essential(self) -> bool:
        """What always passes: to oneself, failsafe sessions, and what a link needs in order to be one."""
        source, destination = self.met.source, self.met.destination
        if source.own and destination.own:
            return True
        if source.workload is not None and _id(source.workload) == _id(destination.workload):
            return True
        asking = self.asks_for_configuration() or self.asks_its_host()
        return self.failsafe() or self.keeps_the_link() or asking or self.configured_by_others()

    def failsafe(self) -> bool:
        """A session that must not be cut, in either direction; what a frame only pretends is no session.

        Nor is what an endpoint of this host says that nobody has labelled: any birth could say so.
        """
        packet, source, destination = self.packet, self.met.source, self.met.destination
        if not (source.vouched and destination.vouched):
            return False
        if self.met.entered is not None and self.met.entered.known is None:
            return False
        return any(
            (destination.own and (source.address, packet.port) == (each.source, each.port))
            or (
                # The host's answer, where tracking does not know whose connection it is.
                packet.state is not PacketState.NEW
                and source.own
                and (destination.address, packet.source_port) == (each.source, each.port)
            )
            for each in self.host.failsafe
            if each.protocol == packet.protocol
        )

    def keeps_the_link(self) -> bool:
        """Neighbour discovery that stays on its link; group membership, told to a group. Else it is a way to talk.

        Only of those who belong to the link: what nobody vouches for is judged like anything else.
        """
        if not (self.sender_belongs() or nameless(self.packet, self.packet.sender_address or self.packet.source)):
            return False
        to_a_group = ip_address(self.packet.destination).is_multicast
        if self.packet.protocol is Protocol.ICMPV6:
            kind = self.packet.port >> 8
            return (kind in NEIGHBOURS and self.stays_on_the_link()) or (kind in MEMBERSHIP and to_a_group)
        return self.packet.protocol == IGMP and to_a_group

    def sender_belongs(self) -> bool:
        """Tell whether a frame comes from where it says. Whose link nobody has reported belongs nowhere yet."""
        return not self.met.forged

    def stays_on_the_link(self) -> bool:
        """No router passes neighbour discovery on (RFC 4861, 7.1)."""
        source, destination = self.met.source, self.met.destination
        address = ip_address(destination.address)
        if address.is_multicast or address.is_link_local or source.own or destination.own:
            return True
        bridges = [end.endpoint.bridge if end.endpoint else "" for end in (source, destination)]
        return bridges[0] != "" and bridges[0] == bridges[1]

    def asks_for_configuration(self) -> bool:
        """The host's own DHCP client; an endpoint's is judged like anything else."""
        asked = (self.packet.protocol, self.packet.source_port, self.packet.port)
        return self.packet.interface == "" and asked in ((Protocol.UDP, 68, 67), (Protocol.UDP, 546, 547))

    def gives_address(self) -> bool:
        packet = self.packet
        return packet.protocol is Protocol.UDP and (packet.source_port, packet.port) == (67, 68)

    def asks_its_host(self) -> bool:
        """A machine that asks its link for its address asks its host, too, which often gives it one."""
        source, destination = self.met.source, self.met.destination
        asked = (self.packet.protocol, self.packet.source_port, self.packet.port) == (Protocol.UDP, 68, 67)
        here = destination.own or (destination.address == "255.255.255.255" and not self.packet.leaving)
        return asked and here and asks(source) and not self.met.forged

    def configured_by_others(self) -> bool:
        """Router advertisements and DHCP answers, save from an endpoint that nobody has labelled yet."""
        unknown = self.met.entered is not None and self.met.entered.known is None
        return self.offers_configuration() and not unknown

    def offers_configuration(self) -> bool:
        packet = self.packet
        if packet.protocol is Protocol.ICMPV6:
            return packet.port >> 8 == ROUTER_ADVERTISEMENT
        return packet.protocol is Protocol.UDP and (packet.source_port, packet.port) in ((67, 68), (547, 546))

    # Quarantine

    def quarantine(self, direction: Direction, mine: End, other: End) -> Cut | None:
        """Judge at the quarantined workload's own end; at its peer's where no host of ours carries it."""
        holding, held_other = quarantines(self.snapshot, mine.known), quarantines(self.snapshot, other.known)
        if holding and held_other:
            return Cut(holding[0])  # two quarantined never talk
        far, inward = other, direction is Direction.INGRESS
        if held_other and not self.carried(other):
            holding, far, inward = held_other, mine, direction is Direction.EGRESS
        for each in holding:
            if any(self.spares(exception, far, inward=inward) for exception in each.excepted):
                return Cut(each, spared=True)
        return Cut(holding[0]) if holding else None

    def carried(self, end: End) -> bool:
        """Tell whether some host of ours judges at this end."""
        if end.here or end.workload is None:
            return end.here
        attached = any(each.attachment in CARRIED for each in end.workload.seen.endpoints)
        return end.workload.seen.host in self.snapshot.hosts and attached

    def spares(self, exception: QuarantineException, far: End, *, inward: bool) -> bool:
        """``from`` spares connections to the quarantined workload, ``to`` those from it."""
        named = exception.source if inward else exception.destination
        if named is None or not on(exception.on, self.snapshot.policy, self.packet, opening=True):
            return False
        return not _trusting(named) and self.is_at(named, far)

    # Rules

    def rule(self, action: Action, direction: Direction, workload: Workload, other: End) -> Rule | None:
        """Return the first rule, by id, of an action that speaks of this packet at this end."""
        speaking = [
            rule
            for policy in self.snapshot.policy.policies
            for rule in policy.rules
            if rule.action is action and self.speaks(policy, rule, direction, workload, other)
        ]
        return min(speaking, key=lambda rule: rule.id, default=None)

    def speaks(self, policy: Policy, rule: Rule, direction: Direction, workload: Workload, other: End) -> bool:
        opening = rule.action is Action.ALLOW
        egress = direction is Direction.EGRESS
        near, far = (rule.source, rule.destination) if egress else (rule.destination, rule.source)
        # A denial that keeps what is established speaks of beginnings only.
        if rule.keep and not opening and self.packet.state in ESTABLISHED:
            return False
        # A rule counts at an end inside its policy's scope, and at no other; a network is no such end.
        if not isinstance(near, Selected) or not selects(policy.scope, workload):
            return False
        if opening and (_trusting(near) or _trusting(far)):
            return False
        return (
            selects(near.selector, workload)
            and self.is_at(far, other)
            and (_reaches_outside(far) or (other.known is not None and selects(policy.scope, other.known)))
            and on(rule.on, self.snapshot.policy, self.packet, opening=opening)
        )

    def is_at(self, named: RuleEnd, end: End) -> bool:
        """Tell whether what a rule names is at an end. Somebody unknown is nobody, in no network either."""
        if isinstance(named, Selected):
            return end.known is not None and selects(named.selector, end.known)
        return not end.claimed and any(
            in_network_set(end.address, name, self.snapshot.policy, self.host) for name in named.names
        )


def _reaches_outside(named: RuleEnd) -> bool:
    """``any(…)`` and ``networks(…)`` may lie outside the scope."""
    return isinstance(named, Networks) or named.anywhere


def _trusting(named: RuleEnd) -> bool:
    return isinstance(named, Selected) and asks_for_trust(named.selector)


def _id(workload: Workload | None) -> WorkloadId | None:
    return workload.id if workload else None
