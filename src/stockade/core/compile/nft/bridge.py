"""The bridge table: vouches for each frame's sender and receiver, and lets nothing by that was not judged.

Where br_netfilter shows bridged packets to the inet family, they are judged there and come out marked; bridge
forward drops IP frames without the mark, so that a sysctl at 0, a tagged frame or an unknown ethertype fail closed.
Where it does not and the kernel tracks connections of bridged frames, the judgement itself stands here.
"""

import ipaddress
from collections.abc import Iterator
from functools import lru_cache

from stockade.core.compile.nft.inet import machines, owned, ports
from stockade.core.compile.nft.judging import (
    COUNTERS,
    DISCOVERY,
    LISTENERS,
    MEMBERSHIP,
    REMEMBERED,
    Judging,
    apart,
    of_ends,
)
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.recording import answered, dropped
from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, ElementSet, Table
from stockade.core.compile.nft.view import FAMILIES
from stockade.core.model.ids import Address
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Attachment, BridgeState
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Births

FIRST = "type filter hook prerouting priority -300; policy accept;"
LAST = "type filter hook postrouting priority 300; policy accept;"
AFTER_INET = "type filter hook forward priority 10; policy accept;"
"""br_netfilter shows a frame to the inet family at bridge forward's priority 0."""
AFTERWARDS = "type filter hook postrouting priority 310; policy accept;"
UPWARDS = "type filter hook input priority 10; policy accept;"

SELF_SIGNED = "{ 131, 132, 133, 135, 143 }"
"""ICMPv6 types that an interface sends from ``::`` while its address is still tentative (RFC 4861, 4862, 3810)."""


ASKS_FOR_ADDRESS = "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67"
"""A DHCP client that has no address yet (RFC 2131, 4.1): it says so to everybody, and to nobody of its choice."""
IS_GIVEN_ADDRESS = "ether type ip udp sport 67 udp dport 68"
"""What a server says to it, which no endpoint under enforcement can say."""


def bridge_table(intent: Intent, judging: Judging) -> Table:
    """Return the bridge table of one host."""
    wire = _Wire(intent, judging)
    if not wire.judged_here:
        return Table("bridge", sets=wire.sets(), counters=frozenset(COUNTERS), chains=wire.chains())
    return Table(
        "bridge",
        sets=judging.sets() | wire.sets(),
        counters=judging.counters(),
        chains=judging.chains() | wire.chains(),
    )


class _Wire:
    def __init__(self, intent: Intent, judging: Judging) -> None:
        self.intent = intent
        self.ends = [end for end in intent.ends if end.attachment is Attachment.BRIDGED]
        self.known = [end for end in self.ends if end.program]
        self.reported = [end for end in self.ends if end.workload]
        self.strict = [end for end in self.known if judging.enforced(end)]
        self.guarded = [end for end in intent.ends if judging.enforced(end)]
        self.closed = [end for end in self.known if judging.closed(end)]
        self.host_closed = any(judging.closed(end) for end in intent.ends if end.attachment is Attachment.HOST)
        self.judged_here = sorted(b.name for b in intent.bridges if b.state is BridgeState.BRIDGE)

    def sets(self) -> dict[str, ElementSet]:
        here = set(self.judged_here)
        found = {
            "known": ports(end.port for end in self.known),
            "strict": ports(end.port for end in self.strict),
            "closed": ports(end.port for end in self.closed),
            "asking": ports(end.port for end in self.known if end.asks),
            "uplinks": ports({port for bridge in self.intent.bridges for port in bridge.uplinks}),
            "judged_here": ports(end.port for end in self.ends if end.bridge in here),
            "macs": machines(self.reported),
            "claims": self._claims(),
        }
        for family in FAMILIES:
            found[f"own{family}"] = owned(self.reported, family)
            found[f"guarded{family}"] = of_ends(self.guarded, family)
            found[f"locals{family}"] = of_ends(self.known, family)
        return found

    def chains(self) -> dict[str, Chain]:
        found = {}
        if self.judged_here:
            found["bridged"] = Chain(rules=tuple(self._bridged()))
            found["answered"] = Chain(AFTERWARDS, answered("oifname @judged_here"))
        return found | {
            "prerouting": Chain(FIRST, tuple(self._prerouting())),
            "arp_in": Chain(rules=tuple(self._arp_in())),
            "ip6_in": Chain(rules=tuple(self._ip6_in())),
            "uplink_in": Chain(rules=tuple(self._uplink_in())),
            "forged": Chain(rules=tuple(self._forged())),
            "unknown_in": Chain(rules=tuple(self._unknown_in())),
            "stranger_in": Chain(rules=tuple(self._stranger_in())),
            "forwarding": Chain(AFTER_INET, tuple(self._forward())),
            "judged_only": Chain(rules=tuple(self._judged_only())),
            "incoming": Chain(UPWARDS, tuple(self._input())),
            "postrouting": Chain(LAST, tuple(self._postrouting())),
            "deliver": Chain(rules=tuple(self._deliver())),
            "unknown_out": Chain(rules=tuple(self._unknown_out())),
        }

    def _claims(self) -> ElementSet:
        """Which IPv6 address a port may claim in neighbour discovery; read from the message itself, as a number."""
        elements = frozenset(
            f'"{end.port}" . {end.mac} . {_as_number(address)}'
            for end in self.reported
            if end.mac and end.port
            for address in apart(end.addresses)[6]
        )
        return ElementSet("typeof iifname . ether saddr . @th,64,128", elements=elements)

    def _prerouting(self) -> Iterator[str]:
        clear = ~MARKS.packet & 0xFFFFFFFF
        yield rule(f"meta mark & {MARKS.packet:#010x} != 0 meta mark set meta mark & {clear:#010x}")
        yield rule("iifname @uplinks goto uplink_in")
        yield rule("iifname != @known goto unknown_in")
        yield rule("ether type arp goto arp_in")
        yield rule("ether type ip6 goto ip6_in")
        yield rule(f"iifname @strict ether type ip udp sport 67 udp dport 68 {dropped('forged', Direction.EGRESS)}")
        yield rule("ether type ip iifname . ether saddr . ip saddr @own4 accept")
        yield rule(f"iifname @asking {ASKS_FOR_ADDRESS} iifname . ether saddr @macs accept")
        yield rule("goto forged")

    def _arp_in(self) -> Iterator[str]:
        """Sender's MAC, in frame and in message, and address are the port's own; or it asks before it has one."""
        own = "arp htype 1 arp ptype ip iifname . ether saddr @macs"
        yield rule(f"{own} iifname . arp saddr ether . arp saddr ip @own4 accept")
        yield rule(f"{own} iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept")
        yield rule("goto forged")

    def _ip6_in(self) -> Iterator[str]:
        yield rule(f"iifname @strict icmpv6 type nd-router-advert {dropped('forged', Direction.EGRESS)}")
        yield rule(f"iifname @strict udp sport 547 udp dport 546 {dropped('forged', Direction.EGRESS)}")
        yield rule("icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @claims goto forged")
        yield rule(
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . @th,64,128 != @claims goto forged"
        )
        yield rule(f"ip6 saddr :: icmpv6 type {SELF_SIGNED} iifname . ether saddr @macs accept")
        yield rule("iifname . ether saddr . ip6 saddr @own6 accept")
        yield rule("goto forged")

    def _uplink_in(self) -> Iterator[str]:
        """From outside nobody carries an address that is an endpoint's here."""
        for family, ip in ((4, "ip"), (6, "ip6")):
            yield rule(f"{ip} saddr @locals{family} meta mark set meta mark | {MARKS.forged:#010x}")

    def _forged(self) -> Iterator[str]:
        yield rule(f"iifname @strict {dropped('forged', Direction.EGRESS)}")
        yield rule(f"meta mark set meta mark | {MARKS.forged:#010x} accept")

    def _unknown_in(self) -> Iterator[str]:
        """Nobody has labelled it: it may be a neighbour, as itself; the rest waits or is a stranger's."""
        own = "arp htype 1 arp ptype ip iifname . ether saddr @macs"
        yield rule(f"ether type arp {own} iifname . arp saddr ether . arp saddr ip @own4 accept")
        yield rule(f"ether type arp {own} iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept")
        yield rule(f"ip6 saddr :: icmpv6 type {SELF_SIGNED} accept")
        yield rule("icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @claims goto stranger_in")
        for message in (DISCOVERY, LISTENERS):
            yield rule(f"{message} iifname . ether saddr . ip6 saddr @own6 accept")
        yield rule(f"{MEMBERSHIP} iifname . ether saddr . ip saddr @own4 accept")
        yield rule("goto stranger_in")

    def _stranger_in(self) -> Iterator[str]:
        if self.intent.births is Births.HOLD:
            yield rule(dropped("held", Direction.EGRESS))
            return
        for family, ip in ((4, "ip"), (6, "ip6")):
            own = f"ether type {ip} iifname . ether saddr . {ip} saddr @own{family}"
            yield rule(f"{own} meta mark set meta mark | {MARKS.unlabelled:#010x} accept")
        yield rule(f"meta mark set meta mark | {MARKS.forged:#010x} accept")

    def _forward(self) -> Iterator[str]:
        if self.judged_here:
            # No frame goes from bridge to bridge: what comes by an uplink, or by a port that nobody has reported, and
            # goes to an endpoint of such a bridge is judged there as well.
            for port in ("iifname", "oifname"):
                yield rule(f"{port} @judged_here ether type {{ ip, ip6 }} jump bridged")
        yield rule("iifname @strict goto judged_only")
        yield rule("oifname @strict goto judged_only")

    def _bridged(self) -> Iterator[str]:
        """The judgement itself, where the bridge family tracks connections."""
        yield rule("ct state invalid goto strange")
        yield rule(f"meta mark & {MARKS.forged:#010x} != 0 goto forged_in")
        yield rule("ct state untracked goto judge_p")
        yield rule("goto judge_c")

    def _judged_only(self) -> Iterator[str]:
        yield rule("ether type arp accept")
        yield rule(f"meta mark & {MARKS.judged:#010x} != 0 accept")
        yield rule("counter name unjudged drop")

    def _input(self) -> Iterator[str]:
        """A host that refuses strangers does not learn neighbours from forgers."""
        if self.host_closed:
            yield rule(f"ether type arp meta mark & {MARKS.forged:#010x} != 0 counter name forged drop")

    def _postrouting(self) -> Iterator[str]:
        yield rule("oifname @uplinks accept")
        yield rule("oifname @strict goto deliver")
        for family, ip in ((4, "ip"), (6, "ip6")):
            astray = f"oifname . ether daddr . {ip} daddr != @own{family} counter name unjudged drop"
            yield rule(f"{ip} daddr @guarded{family} {astray}")
            yield rule(f"{ip} saddr @guarded{family} {ip} daddr @locals{family} {astray}")
        yield rule("oifname != @known goto unknown_out")

    def _deliver(self) -> Iterator[str]:
        """Only what is addressed to an enforcing endpoint, and was judged as such, reaches it.

        A closed one meets vouched neighbours alone.
        """
        yield rule(f"ether type arp meta mark & {MARKS.forged:#010x} == 0 accept")
        yield rule("ether type arp oifname != @closed accept")
        for family, ip in ((4, "ip"), (6, "ip6")):
            yield rule(f"oifname . ether daddr . {ip} daddr @own{family} meta mark & {MARKS.nowhere:#010x} == 0 accept")
        yield rule(f"oifname @asking {IS_GIVEN_ADDRESS} meta mark & {MARKS.forged:#010x} == 0 accept")
        for message in (DISCOVERY, LISTENERS, MEMBERSHIP):
            yield rule(f"{message} meta mark & {MARKS.forged:#010x} == 0 accept")
        yield rule("oifname != @closed ether type { ip, ip6 } meta pkttype { broadcast, multicast } accept")
        yield rule("counter name unjudged drop")

    def _unknown_out(self) -> Iterator[str]:
        if self.intent.births is Births.HOLD:
            for message in ("ether type arp", DISCOVERY, LISTENERS, MEMBERSHIP):
                yield rule(f"{message} meta mark & {MARKS.forged:#010x} == 0 accept")
            yield rule(dropped("held", Direction.INGRESS))


@lru_cache(REMEMBERED)
def _as_number(address: Address) -> str:
    return f"{int(ipaddress.IPv6Address(address)):#034x}"
