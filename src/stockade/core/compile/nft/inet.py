"""The inet table: connections that are routed, that begin or end at the host, or that br_netfilter shows."""

from collections.abc import Iterator

from stockade.core.compile.nft.judging import DISCOVERY, LISTENERS, MEMBERSHIP, Judging, address_type, apart, of_ends
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.recording import answered, dropped
from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, ElementSet, Table
from stockade.core.compile.nft.view import FAMILIES
from stockade.core.model.intent import Intent, LocalEnd
from stockade.core.model.inventory import Attachment
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Births

LAYOUT = "stockade layout 1"
"""Kept in a set's comment, which survives read-back, so that a newer agent knows what it adopts."""

VOUCH = "type filter hook prerouting priority -310; policy accept;"
"""Before connection tracking (-200): what a forger sends makes no entry."""
AFTERWARDS = "type filter hook {} priority 310; policy accept;"
"""What comes so far has been let by."""
FILTER = "type filter hook {} priority -5; policy accept;"
"""After destination translation (-100), before source translation (100), just before what others filter (0)."""


def inet_table(intent: Intent, judging: Judging) -> Table:
    """Return the inet table of one host."""
    gate = _Gate(intent, judging)
    return Table("inet", sets=judging.sets() | gate.sets(), counters=judging.counters(), chains=gate.chains())


class _Gate:
    """The base chains, and what vouches for endpoints that have an interface of their own."""

    def __init__(self, intent: Intent, judging: Judging) -> None:
        self.intent = intent
        self.judging = judging
        self.routed = [end for end in intent.ends if end.attachment is Attachment.ROUTED]
        self.reported = [end for end in self.routed if end.workload]

    def sets(self) -> dict[str, ElementSet]:
        known = [end for end in self.routed if end.program]
        bridges = {bridge.name for bridge in self.intent.bridges}
        outside = set(self.intent.interfaces) - bridges - {"lo"}
        return {
            "layout": ElementSet("mark", comment=LAYOUT),
            "intent": named(self.intent),
            "bridges": ports(bridges),
            "outside": ports(outside),
            "routed": ports(end.port for end in known),
            "strict": ports(end.port for end in known if self.judging.enforced(end)),
            "interfaces": ports({*self.intent.interfaces, *bridges, *(end.port for end in known)}),
            "closed": ports(end.port for end in known if self.judging.closed(end)),
            **{f"own{family}": owned(self.reported, family) for family in FAMILIES},
            **{f"home{family}": homes(known, family) for family in FAMILIES},
            "macs": machines(self.reported),
            "asking4": of_ends((end for end in self.intent.ends if end.asks and end.program), 4),
        }

    def chains(self) -> dict[str, Chain]:
        found = self.judging.chains()
        found["vouch"] = Chain(rules=tuple(self._vouch()))
        found["unknown_in"] = Chain(rules=tuple(self._unknown_in()))
        found["held"] = Chain(rules=tuple(self._held()))
        found["to_routed"] = Chain(rules=tuple(self._to_routed()))
        bases = {
            "prerouting": (VOUCH, self._prerouting()),
            "forwarding": (FILTER.format("forward"), self._hook(leaves=True)),
            "incoming": (FILTER.format("input"), self._input()),
            "outgoing": (FILTER.format("output"), self._output()),
            "answered_out": (AFTERWARDS.format("postrouting"), iter(answered())),
            "answered_in": (AFTERWARDS.format("input"), iter(answered())),
        }
        return found | {name: Chain(hook, tuple(rules)) for name, (hook, rules) in bases.items()}

    def _prerouting(self) -> Iterator[str]:
        clear = ~MARKS.packet & 0xFFFFFFFF
        yield rule(f"iifname != @bridges meta mark & {MARKS.packet:#010x} != 0 meta mark set meta mark & {clear:#010x}")
        yield rule("iifname @routed jump vouch")
        for family, ip in ((4, "ip"), (6, "ip6")):
            yield rule(f"iifname @outside {ip} saddr @local{family} meta mark set meta mark | {MARKS.forged:#010x}")
        yield rule("iifname != @interfaces goto unknown_in")

    def _vouch(self) -> Iterator[str]:
        """An endpoint's packets carry its own MAC and address; routers' and DHCP servers' never come from one."""
        yield rule(f"iifname @strict udp sport 67 udp dport 68 {dropped('forged', Direction.EGRESS)}")
        yield rule(f"iifname @strict udp sport 547 udp dport 546 {dropped('forged', Direction.EGRESS)}")
        yield rule(f"iifname @strict icmpv6 type nd-router-advert {dropped('forged', Direction.EGRESS)}")
        yield rule("iifname . ether saddr . ip saddr @own4 return")
        yield rule("iifname . ether saddr . ip6 saddr @own6 return")
        for message in (DISCOVERY, LISTENERS):
            yield rule(f"ip6 saddr :: iifname . ether saddr @macs {message} return")
        yield rule(f"iifname @strict {dropped('forged', Direction.EGRESS)}")
        yield rule(f"meta mark set meta mark | {MARKS.forged:#010x}")

    def _unknown_in(self) -> Iterator[str]:
        """Nobody has labelled this endpoint: it may be a neighbour, as itself; the rest waits or is a stranger's."""
        for message in (DISCOVERY, LISTENERS):
            yield rule(f"ip6 saddr :: {message} accept")
            yield rule(f"{message} iifname . ether saddr . ip6 saddr @own6 accept")
        yield rule(f"{MEMBERSHIP} iifname . ether saddr . ip saddr @own4 accept")
        if self.intent.births is Births.HOLD:
            yield rule(dropped("held", Direction.EGRESS))
            return
        for family, ip in ((4, "ip"), (6, "ip6")):
            own = f"iifname . ether saddr . {ip} saddr @own{family}"
            yield rule(f"{own} meta mark set meta mark | {MARKS.unlabelled:#010x} return")
        yield rule(f"meta mark set meta mark | {MARKS.forged:#010x}")

    def _held(self) -> Iterator[str]:
        """Nothing but essential goes to an endpoint that nobody has labelled."""
        for message in (DISCOVERY, LISTENERS, MEMBERSHIP):
            yield rule(f"{message} accept")
        yield rule(dropped("held", Direction.INGRESS))

    def _to_routed(self) -> Iterator[str]:
        """To an enforcing endpoint goes only what is addressed to it; to a group, not where strangers are refused."""
        for family, ip in ((4, "ip"), (6, "ip6")):
            yield rule(f"oifname . {ip} daddr @home{family} return")
        for message in (DISCOVERY, LISTENERS, MEMBERSHIP):
            yield rule(f"{message} return")
        yield rule("oifname != @closed ip daddr { 224.0.0.0/4, 255.255.255.255 } return")
        yield rule("oifname != @closed ip6 daddr ff00::/8 return")
        yield rule("counter name unjudged drop")

    def _input(self) -> Iterator[str]:
        """The host's own DHCP client hears its servers; a router or a neighbour that is forged is not heard."""
        yield rule("iifname @outside udp sport 67 udp dport 68 accept")
        yield rule("iifname @outside udp sport 547 udp dport 546 accept")
        if any(self.judging.closed(end) for end in self.intent.ends if end.attachment is Attachment.HOST):
            yield rule(f"meta mark & {MARKS.forged:#010x} != 0 goto forged_up")
        yield rule(f"ip saddr @asking4 udp sport 68 udp dport 67 meta mark & {MARKS.forged:#010x} == 0 accept")
        yield from self._hook(leaves=False)

    def _output(self) -> Iterator[str]:
        yield rule("udp sport 68 udp dport 67 accept")
        yield rule("udp sport 546 udp dport 547 accept")
        yield rule("ip daddr @asking4 udp sport 67 udp dport 68 accept")
        yield from self._hook(leaves=True, sent_here=True)

    def _hook(self, *, leaves: bool, sent_here: bool = False) -> Iterator[str]:
        """Lead a packet to its judgement. Should none be given, what may be policed is dropped."""
        if leaves and self.intent.births is Births.HOLD:
            yield rule("oifname != @interfaces goto held")
        if leaves:
            yield rule("oifname @strict jump to_routed")
        yield rule("ct state invalid goto strange")
        yield rule(f"meta mark & {MARKS.forged:#010x} != 0 goto forged_in")
        yield rule("ct state untracked goto judge_p")
        if sent_here:
            yield from self.judging.begins_second_leg()
        yield rule("jump judge_c")
        if any(self.judging.enforced(end) for end in self.intent.ends):
            yield rule("drop")


def named(intent: Intent) -> ElementSet:
    """Return what says in the kernel whose rules they are: the intent's fingerprint, as far as an ``ifname`` goes."""
    return ports({intent.fingerprint[:15]})


def ports(names: "set[str] | Iterator[str]") -> ElementSet:
    """Return a set of interface names."""
    return ElementSet("ifname", elements=frozenset(f'"{name}"' for name in names if name))


def owned(ends: list[LocalEnd], family: int) -> ElementSet:
    """Return who may carry which address where: (port, MAC, address)."""
    elements = frozenset(
        f'"{end.port}" . {end.mac} . {address}'
        for end in ends
        if end.mac and end.port
        for address in apart(end.addresses)[family]
    )
    return ElementSet(f"ifname . ether_addr . {address_type(family)}", elements=elements)


def homes(ends: list[LocalEnd], family: int) -> ElementSet:
    """Return which address lives behind which port."""
    elements = frozenset(
        f'"{end.port}" . {address}' for end in ends if end.port for address in apart(end.addresses)[family]
    )
    return ElementSet(f"ifname . {address_type(family)}", elements=elements)


def machines(ends: list[LocalEnd]) -> ElementSet:
    """Return which MAC belongs to which port."""
    pairs = frozenset(f'"{end.port}" . {end.mac}' for end in ends if end.mac and end.port)
    return ElementSet("ifname . ether_addr", elements=pairs)
