"""Hand-written scenarios: sequences of events in which everything changes that can change.

Each is read aloud by its name. Whatever follows events (fold, compile, an agent's loop) is run over all of them in
every variant of ``expanders``. They share one small shop: a web, an api and a db container on host-a's bridge.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from stockade.core.model.event import (
    Event,
    HostGone,
    HostSeen,
    LabelsSet,
    PolicyActivated,
    QuarantineLapsed,
    WorkloadGone,
    WorkloadSeen,
)
from stockade.core.model.ids import Address, HostId, Prefix, Realm, RuleId, Version, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Bridge,
    Endpoint,
    Facts,
    Host,
    Published,
    Sighting,
    WorkloadKind,
    WorkloadState,
)
from stockade.core.model.labels import LabelSource
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import (
    Action,
    Births,
    EnforcementMode,
    LabelRule,
    Mode,
    Networks,
    NetworkSet,
    Policy,
    PolicySet,
    Quarantine,
    QuarantineException,
    Rule,
    Selected,
    Service,
    UnmanagedWorkload,
    Where,
)
from stockade.core.model.selector import ALL, Equal, Has, Selector

HOST = HostId("host-a")
OTHER = HostId("host-b")
BRIDGE = Bridge("br0", Realm("host-a/br0"), (Prefix("10.0.0.0/24"), Prefix("fd00::/64")))
TCP_80 = Ports(Protocol.TCP, 80, 80)
POSTGRES = Ports(Protocol.TCP, 5432, 5432)


def role(value: str) -> Selector:
    """Select by role."""
    return Equal("role", value)


def host(id_: HostId = HOST, published: tuple[Published, ...] = (), unknown: tuple[Endpoint, ...] = ()) -> Event:
    """Report a host with one bridge."""
    bridge = replace(BRIDGE, realm=Realm(f"{id_}/br0"))
    interfaces = ("br0", "eth0", "lo")
    resolvers = (Address("192.168.7.53"),)
    return HostSeen(Host(id_, WorkloadId(f"host:{id_}"), interfaces, (bridge,), published, resolvers, unknown=unknown))


def host_itself(id_: HostId = HOST, number: int = 1) -> Event:
    """Report a host's own workload."""
    addresses = (Address("10.0.0.1"), Address(f"192.168.7.{number}"))
    endpoints = (Endpoint(Attachment.HOST, addresses),)
    facts = Facts(runtime="host", host_name=id_, labels=(("stockade.role", "host"),))
    return WorkloadSeen(
        Sighting(WorkloadId(f"host:{id_}"), id_, WorkloadKind.HOST, id_, endpoints=endpoints, facts=facts)
    )


def endpoint(place: int, id_: HostId = HOST, more: tuple[str, ...] = ()) -> Endpoint:
    """Give a place on the bridge: an address of each family, a port, a MAC."""
    addresses = (f"10.0.0.{place}", f"fd00::{place}", *more)
    return Endpoint(
        Attachment.BRIDGED,
        tuple(Address(each) for each in addresses),
        f"veth{place}",
        "br0",
        f"02:00:00:00:00:{place:02x}",
        Realm(f"{id_}/br0"),
    )


def container(name: str, place: int, id_: HostId = HOST, labels: bool = True, **changed: object) -> WorkloadSeen:
    """Report a container; its role is its name up to the dash."""
    said = (("stockade.app", "shop"), ("stockade.role", name.partition("-")[0])) if labels else ()
    sighting = Sighting(
        id=WorkloadId(f"docker:{id_}:{name}"),
        name=name,
        kind=WorkloadKind.CONTAINER,
        host=id_,
        endpoints=(endpoint(place, id_),),
        facts=Facts(runtime="docker", host_name=id_, labels=said),
    )
    return WorkloadSeen(replace(sighting, **changed))


def unmanaged(name: str = "legacy", address: str = "192.168.7.20") -> WorkloadSeen:
    """Report a workload without an agent."""
    endpoints = (Endpoint(Attachment.REMOTE, (Address(address),)),)
    return WorkloadSeen(Sighting(WorkloadId(f"unmanaged:{name}"), name, WorkloadKind.UNMANAGED, endpoints=endpoints))


def allow(name: str, source: Selector, destination: Selector, *on: Ports | str, keep: bool = False) -> Rule:
    """Allow within the shop policy."""
    return Rule(RuleId(f"shop/{name}"), Action.ALLOW, Selected(source), Selected(destination), on, keep)


WEB_TO_API = allow("web-to-api", role("web"), role("api"), TCP_80)
API_TO_DB = allow("api-to-db", role("api"), role("db"), "postgres")
MONITORING = Rule(
    RuleId("shop/monitoring"), Action.ALLOW, Selected(role("probe"), anywhere=True), Selected(ALL), (TCP_80,)
)
PAYMENTS = Rule(RuleId("shop/payments"), Action.ALLOW, Selected(role("api")), Networks(("payments",)))
NO_WEB_TO_DB = Rule(RuleId("shop/no-web-to-db"), Action.OVERRIDE_DENY, Selected(role("web")), Selected(role("db")))

OWN_LABELS = LabelRule("own", (("{label:stockade.*}", "{label:stockade.*}"),), (), LabelSource.SELF)
BY_NAME = LabelRule("by-name", (("env", "prod"),), (("name", "*-1"),))
DEFAULT = EnforcementMode("default", ALL, Mode.VISIBILITY)
FULL = EnforcementMode("shop", Equal("app", "shop"), Mode.FULL, 10)
SELECTIVE = EnforcementMode("shop", Equal("app", "shop"), Mode.SELECTIVE, 10)
HOLDING = EnforcementMode("hosts", role("host"), Mode.VISIBILITY, 20, Births.HOLD)
CUT_WEB = Quarantine("web", Equal("name", "web-1"), (QuarantineException(source=Selected(role("probe"))),))
CUT_LEGACY = Quarantine("legacy", Equal("name", "legacy"))

BUILT_IN = PolicySet(modes=(DEFAULT,), label_rules=(OWN_LABELS,))


def policy(
    version: int,
    *rules: Rule,
    modes: tuple[EnforcementMode, ...] = (FULL,),
    quarantines: tuple[Quarantine, ...] = (),
    label_rules: tuple[LabelRule, ...] = (OWN_LABELS,),
    scope: Selector = ALL,
    workloads: tuple[UnmanagedWorkload, ...] = (),
) -> Event:
    """Make a version of the shop policy active."""
    placed = tuple(replace(rule, where=Where("shop.yaml", 6 + line, 5)) for line, rule in enumerate(rules))
    return PolicyActivated(
        Version(version),
        PolicySet(
            policies=(Policy("shop", placed, scope),),
            services=(Service("postgres", (POSTGRES,)),),
            network_sets=(
                NetworkSet("payments", (Prefix("203.0.113.0/24"),), (Prefix("203.0.113.7/32"),)),
                NetworkSet("resolvers"),
            ),
            label_rules=label_rules,
            modes=(DEFAULT, *modes),
            quarantines=quarantines,
            workloads=workloads,
        ),
    )


def box(name: str, *addresses: str, line: int = 20, **labels: str) -> UnmanagedWorkload:
    """Declare a workload without an agent."""
    return UnmanagedWorkload(
        name, tuple(map(Address, sorted(addresses))), tuple(sorted(labels.items())), where=Where("boxes.yaml", line, 1)
    )


WEB, API, DB = container("web-1", 11), container("api-1", 12), container("db-1", 13)
PROBE = container("probe-1", 14)
WEB_ID, API_ID, DB_ID = (each.sighting.id for each in (WEB, API, DB))
SHOP: tuple[Event, ...] = (host(), host_itself(), WEB, API, DB)
TO_WEB = Published(Protocol.TCP, 8080, WEB_ID, Address("10.0.0.11"), 80)


SCENARIOS: Mapping[str, Sequence[Event]] = MappingProxyType(
    {
        "nothing": (),
        "a shop under policy": (*SHOP, policy(1, WEB_TO_API, API_TO_DB, PAYMENTS)),
        "policy comes first": (policy(1, WEB_TO_API, API_TO_DB), *SHOP),
        "an operator labels what nobody knows": (
            *SHOP,
            policy(1, WEB_TO_API),
            container("batch-1", 20, labels=False),
            LabelsSet(WorkloadId("docker:host-a:batch-1"), (("app", "shop"), ("role", "web")), "ann"),
        ),
        "an operator labels what is not there yet, and takes it back": (
            LabelsSet(WEB_ID, (("role", "db"),), "ann"),
            LabelsSet(API_ID, (("env", "prod"),), "ann"),
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            LabelsSet(WEB_ID, (), "bob"),
        ),
        "labels change by recreation": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            container("web-1", 11, facts=Facts("docker", labels=(("stockade.app", "shop"), ("stockade.role", "api")))),
            LabelsSet(DB_ID, (("role", "web"),), "ann"),
        ),
        "label rules change": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            policy(2, WEB_TO_API, API_TO_DB, label_rules=(BY_NAME, OWN_LABELS), scope=Equal("env", "prod")),
            policy(3, WEB_TO_API, API_TO_DB, label_rules=(BY_NAME,)),
        ),
        "rules come and go": (
            *SHOP,
            policy(1, WEB_TO_API),
            policy(2, WEB_TO_API, API_TO_DB, MONITORING),
            policy(3, API_TO_DB, NO_WEB_TO_DB),
            policy(4, WEB_TO_API, API_TO_DB),
        ),
        "an old version arrives late": (*SHOP, policy(3, API_TO_DB), policy(2, WEB_TO_API), policy(3, API_TO_DB)),
        "modes change": (
            *SHOP,
            policy(1, WEB_TO_API, modes=(SELECTIVE,)),
            policy(2, WEB_TO_API, modes=()),
            policy(3, WEB_TO_API, modes=(FULL, HOLDING)),
        ),
        "an address moves to another workload": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            WorkloadGone(WEB_ID),
            container("db-2", 11),
        ),
        "two claim one address, then one": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            container("db-2", 12),
            container("db-2", 15),
        ),
        "a workload gets a second endpoint and more addresses": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            container("web-1", 11, endpoints=(endpoint(11), endpoint(31))),
            container("api-1", 12, endpoints=(endpoint(12, more=("10.0.0.112", "fd00::112")),)),
        ),
        "a container stops and starts elsewhere": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            container("web-1", 11, state=WorkloadState.STOPPED),
            container("web-1", 16),
        ),
        "a container is created, then runs": (
            *SHOP,
            policy(1, WEB_TO_API),
            container("web-2", 17, state=WorkloadState.CREATED, endpoints=()),
            container("web-2", 17),
        ),
        "a namespace is shared, then not": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            container("db-2", 18, owner=API_ID),
            container("db-2", 18),
            container("probe-2", 19, owner=API_ID),
        ),
        "ports are published and taken back": (
            *SHOP,
            policy(1, WEB_TO_API, MONITORING),
            PROBE,
            host(published=(TO_WEB,)),
            host(published=(replace(TO_WEB, proxied=True, address="192.168.7.1"),)),
            host(published=(replace(TO_WEB, port=8443, workload=API_ID, to_address=Address("10.0.0.12")),)),
        ),
        "a link is seen before its workload": (
            *SHOP,
            policy(1, WEB_TO_API),
            host(unknown=(endpoint(21),)),
            container("web-3", 21),
            host(),
        ),
        "a host restarts": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            HostGone(HOST),
            host(),
            host_itself(),
            container("web-1", 41),
            container("db-1", 13),
        ),
        "a host goes and another has its addresses": (
            *SHOP,
            policy(1, WEB_TO_API, API_TO_DB),
            host(OTHER),
            host_itself(OTHER, 2),
            container("web-1", 11, OTHER),
            container("db-1", 13, OTHER),
            HostGone(HOST),
        ),
        "a quarantine falls, lapses, and falls again": (
            *SHOP,
            PROBE,
            unmanaged(),
            policy(1, WEB_TO_API, MONITORING),
            policy(2, WEB_TO_API, MONITORING, quarantines=(CUT_LEGACY, CUT_WEB)),
            QuarantineLapsed("web"),
            policy(3, WEB_TO_API, MONITORING, quarantines=(CUT_LEGACY, CUT_WEB)),
            QuarantineLapsed("legacy"),
        ),
        "an unmanaged workload is named and moves": (
            *SHOP,
            policy(1, Rule(RuleId("shop/legacy"), Action.ALLOW, Selected(Has("legacy")), Selected(role("db")))),
            unmanaged(),
            LabelsSet(WorkloadId("unmanaged:legacy"), (("legacy", "yes"),), "ann"),
            unmanaged(address="203.0.113.9"),
        ),
        "documents declare workloads, move them and take them back": (
            *SHOP,
            policy(1, API_TO_DB, workloads=(box("old-db", "192.168.7.40", role="db"),)),
            LabelsSet(WorkloadId("workload:old-db"), (("env", "prod"),), "ann"),
            policy(2, API_TO_DB, workloads=(box("old-db", "192.168.7.41", role="db"), box("till", "192.168.7.42"))),
            policy(3, API_TO_DB, workloads=(box("till", "192.168.7.42", line=30, role="web"),)),
            policy(4, API_TO_DB, label_rules=(BY_NAME,), workloads=(box("till-1", "192.168.7.42", role="web"),)),
        ),
        "what a document declares is somebody's already, and is given up": (
            *SHOP,
            policy(1, API_TO_DB, workloads=(box("old-db", "192.168.7.20", "10.0.0.12", role="db"),)),
            unmanaged(),
            unmanaged(address="192.168.7.21"),
            host(OTHER),
            host_itself(OTHER, 20),
            container("api-9", 12, OTHER),
            HostGone(OTHER),
            WorkloadGone(API_ID),
        ),
        "everything at once": (
            policy(1, WEB_TO_API),
            *SHOP,
            LabelsSet(DB_ID, (("env", "prod"),), "ann"),
            policy(2, WEB_TO_API, API_TO_DB, NO_WEB_TO_DB, label_rules=(BY_NAME, OWN_LABELS)),
            PROBE,
            host(published=(TO_WEB,)),
            WorkloadGone(WEB_ID),
            container("web-2", 11),
            policy(3, WEB_TO_API, API_TO_DB, MONITORING, quarantines=(CUT_WEB,), label_rules=(BY_NAME, OWN_LABELS)),
            container("web-1", 22),
            QuarantineLapsed("web"),
            LabelsSet(DB_ID, (("env", "dev"),), "bob"),
        ),
    }
)
"""Every scenario by what happens in it."""
