"""What sees frames at a link before any table does, and what links, bridges and routes have become."""

from collections.abc import Iterable, Iterator

from stockade.core.model.finding import Finding, Severity
from stockade.core.model.ids import CheckId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Attachment, BridgeState
from stockade.core.posture.host.facts import (
    BridgeSeen,
    LinkPort,
    LocalRoute,
    Program,
    ProgramKind,
    RoutingRule,
    TrafficAct,
)

HARMLESS = frozenset({"gact", "police", "sample", "simple", "csum", "gate"})
"""Actions of traffic control that drop, count or correct, and nothing else."""
PROGRAM_CHECKS = {
    ProgramKind.XDP: CheckId("xdp-programs"),
    ProgramKind.TCX: CheckId("tc-filters"),
    ProgramKind.NETFILTER: CheckId("bpf-netfilter"),
    ProgramKind.SOCKETS: CheckId("bpf-sockets"),
}
SWITCHES = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}


def places(intent: Intent | None) -> frozenset[str]:
    """Return the links by which endpoints are met: their ports and bridges."""
    if intent is None:
        return frozenset()
    ports = {end.port for end in intent.ends if end.port}
    return frozenset(ports | {end.bridge for end in intent.ends if end.bridge})


def traffic(acts: Iterable[TrafficAct], intent: Intent | None) -> Iterator[Finding]:
    """Yield what traffic control does that a packet filter would not see. A detour over ``ifb`` comes back."""
    near = places(intent)
    for act in acts:
        if act.act in HARMLESS or act.target.startswith("ifb"):
            continue
        to = f" to {act.target}" if act.target else ""
        yield Finding(
            CheckId("tc-filters"),
            f"{act.link} {act.where}",
            _near(act.link, near),
            f"a {act.classifier} filter does {act.act}{to} before our tables see the frame, or after",
            f"tc filter show dev {act.link} {act.where}; find out whose it is, and remove it",
        )


def programs(found: Iterable[Program], intent: Intent | None) -> Iterator[Finding]:
    """Yield BPF programs that run where they can pass frames by our tables. What they do cannot be seen."""
    near = places(intent)
    for each in found:
        named = f"program {each.id}{f' ({each.name})' if each.name else ''}"
        severity = _near(each.link, near) if each.link else Severity.MEDIUM
        at = f" at {each.link}" if each.link else ""
        yield Finding(
            PROGRAM_CHECKS[each.kind],
            f"{each.link or each.kind.value} {each.id}",
            severity,
            f"{named} runs{at} as {each.kind.value}{f', {each.detail}' if each.detail else ''}; what it does cannot "
            "be seen",
            f"bpftool prog show id {each.id}; find out whose it is, and detach it",
        )


def _near(link: str, near: frozenset[str]) -> Severity:
    """At an endpoint's port or bridge it meets what we judge; elsewhere only what comes from outside."""
    return Severity.HIGH if link in near else Severity.MEDIUM


def moved(ports: Iterable[LinkPort], intent: Intent | None) -> Iterator[Finding]:
    """Yield ports that are on another bridge than their endpoint is judged at."""
    now = {each.name: each.bridge for each in ports}
    for end in intent.ends if intent else ():
        if end.attachment is Attachment.BRIDGED and end.port in now and now[end.port] != end.bridge:
            yield Finding(
                CheckId("moved-ports"),
                end.port,
                Severity.MEDIUM,
                f"{end.name}'s port is on {now[end.port] or 'no bridge'}; it is judged as one of {end.bridge}",
                f"ip link set {end.port} master {end.bridge}, or start {end.name} anew",
            )


def bridges(
    found: Iterable[BridgeSeen], switches: Iterable[tuple[str, int]], intent: Intent | None
) -> Iterator[Finding]:
    """Yield bridges whose switches are not what their traffic is judged by. Frames nobody judges are dropped there."""
    seen = {each.name: each for each in found}
    values = dict(switches)
    for bridge in sorted(intent.bridges if intent else (), key=lambda each: each.name):
        if bridge.name not in seen:
            continue
        if bridge.state is BridgeState.INET:
            yield from _unseen(seen[bridge.name], values)
        if seen[bridge.name].vlan_filtering:
            yield Finding(
                CheckId("bridge-settings"),
                f"{bridge.name} vlan_filtering",
                Severity.LOW,
                "it filters by VLAN: frames that it tags are nobody's, and dropped at enforcing ports",
                f"ip link set {bridge.name} type bridge vlan_filtering 0",
            )


def _unseen(bridge: BridgeSeen, values: dict[str, int]) -> Iterator[Finding]:
    for family, itself in ((4, bridge.filters4), (6, bridge.filters6)):
        if not itself and values.get(SWITCHES[family]) == 0:
            name = SWITCHES[family].rpartition("/")[2]
            yield Finding(
                CheckId("bridge-settings"),
                f"{bridge.name} {name}",
                Severity.MEDIUM,
                f"{name} is 0: IPv{family} frames that stay on {bridge.name} are judged by nobody, and dropped at "
                "enforcing ports",
                f"sysctl -w net.bridge.{name}=1",
            )


def loopback(switches: Iterable[tuple[str, int]]) -> Iterator[Finding]:
    """Yield interfaces over which the loopback's addresses are routed."""
    for path, value in switches:
        if path.endswith("/route_localnet") and value:
            interface = path.split("/")[-2]
            yield Finding(
                CheckId("loopback-routing"),
                interface,
                Severity.MEDIUM,
                "route_localnet is 1: neighbours on that link can address what listens on 127.0.0.1 only",
                f"sysctl -w net.ipv4.conf.{interface}.route_localnet=0, unless a proxy there needs it",
            )


def rules(found: Iterable[RoutingRule]) -> Iterator[Finding]:
    """Yield routing rules that a kernel does not come with. They change ways, not verdicts."""
    for each in found:
        six = "-6 " if each.family == 6 else ""
        yield Finding(
            CheckId("routing-rules"),
            f"IPv{each.family} {each.priority}",
            Severity.LOW,
            f"{each.text}: packets may take another way than the main table's; verdicts hold",
            f"nothing, where it is meant; else ip {six}rule del pref {each.priority}",
        )


def local_routes(found: Iterable[LocalRoute]) -> Iterator[Finding]:
    """Yield prefixes that this host takes for its own: what is addressed to others there ends at the host."""
    for each in found:
        yield Finding(
            CheckId("local-routes"),
            f"{each.prefix} table {each.table}",
            Severity.MEDIUM,
            f"this host answers for {each.prefix}, which is no address of its links: what it allows to others there "
            "can end at a process of the host",
            f"ip route show table {each.table}; find out whose it is, and remove it",
        )
