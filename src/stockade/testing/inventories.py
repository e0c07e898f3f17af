"""Small inventories made from a ``Random``: one host in every detail, sometimes a second, and what lies around them.

The plan of addresses is fixed, so that a failure reads easily: bridge *i* of host-a hands out ``10.0.i.0/24`` and
``fd00:0:0:i::/64`` and is the realm ``host-a/br<i>``; hosts and unmanaged workloads live in ``192.168.7.0/24`` and
``fd00:7::/64``. host-b's containers have host-a's addresses, in realms of their own. Interface names and MACs are such
that a laboratory can create them. Makes the same inventory of the same random numbers; knows no clock.
"""

from random import Random

from msgspec.structs import replace

from stockade.core.model.event import Event, HostSeen, LabelsSet, WorkloadSeen
from stockade.core.model.ids import Address, HostId, Prefix, Realm, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Bridge,
    Endpoint,
    Facts,
    Failsafe,
    Host,
    Published,
    Sighting,
    WorkloadKind,
    WorkloadState,
)
from stockade.core.model.net import Protocol

HOST_A, HOST_B = HostId("host-a"), HostId("host-b")
UPLINK = "eth0"
DIMENSIONS = {"app": ("shop", "blog"), "env": ("prod", "dev"), "role": ("web", "api", "db", 'odd "; }')}
"""Label values by dimension; the last is what a careless renderer would stumble over."""
NAMES = ("web-1", "web-2", "api-1", "db-1", "db-2", "cache", "batch", "cron", "mail", "probe", "queue", "search")
ADMIN = Address("192.168.7.66")
RESOLVERS = (Address("192.168.7.53"), Address("fd00:7::35"))
PUBLISHED_PORTS = (8080, 8443)


def chance(random: Random, share: float) -> bool:
    """Return True in ``share`` of all cases. Shrinks towards False."""
    return random.random() > 1 - share


def mac(number: int) -> str:
    """Return a locally administered MAC."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def inventory_events(random: Random) -> list[Event]:
    """Make the sightings, operators' labels and hosts of a small world, in no particular order of objects."""
    sightings = _host_a(random)
    host = _host(random, HOST_A, sightings)
    elsewhere = _elsewhere(random)
    events: list[Event] = [WorkloadSeen(each) for each in (*sightings, *elsewhere)]
    events.append(HostSeen(host))
    if any(each.host == HOST_B for each in elsewhere):
        events.append(HostSeen(Host(HOST_B, WorkloadId("host:host-b"), ("lo", UPLINK))))
    events += [labels for each in (*sightings, *elsewhere) if (labels := _by_hand(random, each))]
    return events


def _host_a(random: Random) -> list[Sighting]:
    bridges = random.randint(1, 3)
    itself = _itself(HOST_A, 1, bridges)
    names = iter(random.sample(NAMES, len(NAMES)))
    bridged = [
        _container(random, next(names), bridge, place)
        for bridge in range(bridges)
        for place in range(random.randint(2, 3))
    ]
    routed = [_routed(random, next(names), place) for place in range(random.randint(0, 2))]
    return [itself, *_with_oddities(random, [*bridged, *routed], bridges)]


def _itself(host: HostId, place: int, bridges: int) -> Sighting:
    gateways = [Address(f"10.0.{bridge}.1") for bridge in range(bridges)]
    gateways += [_v6(bridge, 1) for bridge in range(bridges)]
    addresses = (*gateways, Address(f"192.168.7.{place}"), Address(f"fd00:7::{place}"))
    return Sighting(
        id=WorkloadId(f"host:{host}"),
        name=host,
        kind=WorkloadKind.HOST,
        host=host,
        endpoints=(Endpoint(Attachment.HOST, tuple(sorted(addresses))),),
        facts=Facts(runtime="host", host_name=host),
    )


def _v6(bridge: int, place: int) -> Address:
    return Address(f"fd00:0:0:{bridge}::{place}" if bridge else f"fd00::{place}")


def _bridged(bridge: int, place: int, host: HostId = HOST_A) -> Endpoint:
    return Endpoint(
        Attachment.BRIDGED,
        addresses=(Address(f"10.0.{bridge}.{10 + place}"), _v6(bridge, 10 + place)),
        port=f"ve{bridge}p{place}",
        bridge=f"br{bridge}",
        mac=mac((bridge + 1) * 256 + place),
        realm=Realm(f"{host}/br{bridge}"),
    )


def _container(random: Random, name: str, bridge: int, place: int, host: HostId = HOST_A) -> Sighting:
    return Sighting(
        id=WorkloadId(f"docker:{host}:{name}"),
        name=name,
        kind=WorkloadKind.CONTAINER,
        host=host,
        endpoints=(_bridged(bridge, place, host),),
        facts=_facts(random, host),
    )


def _facts(random: Random, host: HostId) -> Facts:
    said = {f"stockade.{key}": random.choice(values[:3]) for key, values in DIMENSIONS.items() if chance(random, 0.75)}
    if said and chance(random, 0.05):
        said["stockade.role"] = DIMENSIONS["role"][-1]
    if chance(random, 0.2):
        said["com.docker.compose.service"] = random.choice(("web", "db"))
    return Facts(
        runtime="docker" if chance(random, 0.88) else "",  # without it, no label rule speaks of it
        image="registry.example/shop:1",
        host_name=host,
        labels=tuple(sorted(said.items())),
    )


def _routed(random: Random, name: str, place: int) -> Sighting:
    endpoint = Endpoint(
        Attachment.ROUTED,
        addresses=(Address(f"10.9.{place}.2"), Address(f"fd00:9:{place + 1}::2")),
        port=f"rt{place}",
        mac=mac(0x900 + place),
        realm=Realm(HOST_A),
    )
    bridged = _container(random, name, 0, 0)
    return replace(bridged, id=WorkloadId(f"vm:host-a:{name}"), kind=WorkloadKind.VM, endpoints=(endpoint,))


def _with_oddities(random: Random, workloads: list[Sighting], bridges: int) -> list[Sighting]:
    """Make some workloads stopped, shared, on two networks, with more addresses, opaque, or in conflict."""
    made = []
    for number, each in enumerate(workloads):
        endpoint = each.endpoints[0]
        second = _bridged(random.randrange(bridges), 100 + number)
        odd = random.random()
        if odd > 0.94:
            made.append(replace(each, state=WorkloadState.STOPPED))
        elif odd > 0.88 and number:
            made.append(replace(each, owner=workloads[0].id, endpoints=()))
        elif odd > 0.78:
            made.append(replace(each, endpoints=(endpoint, second)))
        elif odd > 0.70:
            more = tuple(sorted((*endpoint.addresses, *second.addresses)))
            made.append(replace(each, endpoints=(replace(endpoint, addresses=more),)))
        elif odd > 0.67:
            opaque = replace(endpoint, attachment=Attachment.OPAQUE, bridge="", port="")
            made.append(replace(each, endpoints=(opaque,)))
        elif odd > 0.64 and number:
            taken = workloads[0].endpoints[0].addresses
            made.append(replace(each, endpoints=(replace(endpoint, addresses=taken),)))
        else:
            made.append(each)
    return made


def _host(random: Random, id_: HostId, sightings: list[Sighting]) -> Host:
    names = sorted({each.bridge for sighting in sightings for each in sighting.endpoints if each.bridge} | {"br0"})
    bridges = tuple(
        Bridge(name, Realm(f"{id_}/{name}"), (Prefix(f"10.0.{name[2:]}.0/24"), Prefix(f"{_v6_prefix(int(name[2:]))}")))
        for name in names
    )
    return Host(
        id=id_,
        workload=WorkloadId(f"host:{id_}"),
        interfaces=tuple(sorted(("lo", UPLINK, *names))),
        bridges=bridges,
        published=_published(random, sightings),
        resolvers=RESOLVERS,
        failsafe=(Failsafe(ADMIN, Protocol.TCP, 22),) if chance(random, 0.5) else (),
        unknown=_unknown(random),
    )


def _v6_prefix(bridge: int) -> str:
    return f"fd00:0:0:{bridge}::/64" if bridge else "fd00::/64"


def _published(random: Random, sightings: list[Sighting]) -> tuple[Published, ...]:
    able = [each for each in sightings if each.kind is WorkloadKind.CONTAINER and each.endpoints]
    return tuple(
        Published(
            protocol=random.choice((Protocol.TCP, Protocol.TCP, Protocol.UDP)),
            port=port,
            workload=behind.id,
            to_address=behind.endpoints[0].addresses[0],
            to_port=random.choice((80, 5432)),
            address="192.168.7.1" if chance(random, 0.3) else "",
            proxied=chance(random, 0.5),
        )
        for port in PUBLISHED_PORTS
        if able and chance(random, 0.5)
        for behind in (random.choice(able),)
    )


def _unknown(random: Random) -> tuple[Endpoint, ...]:
    """Make a link that was seen and whose workload was not, with or without addresses."""
    if not chance(random, 0.4):
        return ()
    endpoint = _bridged(0, 200)
    return (endpoint if chance(random, 0.6) else replace(endpoint, addresses=()),)


def _elsewhere(random: Random) -> list[Sighting]:
    """Make unmanaged workloads, and sometimes a second host with a container and a VM on the shared network."""
    unmanaged = [_unmanaged(number) for number in range(random.randint(1, 2))]
    if not chance(random, 0.35):
        return unmanaged
    machine = Endpoint(Attachment.BRIDGED, (Address("192.168.7.30"), Address("fd00:7::30")), "tap0", "br0", mac(0xB30))
    container = _container(random, "web-b", 0, 0, HOST_B)
    vm = replace(container, id=WorkloadId("vm:host-b:vm-1"), name="vm-1", kind=WorkloadKind.VM, endpoints=(machine,))
    return [*unmanaged, _itself(HOST_B, 2, 0), container, vm]


def _unmanaged(number: int) -> Sighting:
    addresses = (Address(f"192.168.7.{20 + number}"), Address(f"fd00:7::{20 + number}"))
    return Sighting(
        id=WorkloadId(f"unmanaged:{number}"),
        name=f"legacy-{number}",
        kind=WorkloadKind.UNMANAGED,
        endpoints=(Endpoint(Attachment.REMOTE, addresses),),
    )


def _by_hand(random: Random, sighting: Sighting) -> LabelsSet | None:
    """Label hosts always, unmanaged workloads mostly, others sometimes."""
    share = {WorkloadKind.HOST: 1.1, WorkloadKind.UNMANAGED: 0.8}.get(sighting.kind, 0.2)
    if not chance(random, share):
        return None
    keys = [key for key in DIMENSIONS if chance(random, 0.6)] or ["app"]
    return LabelsSet(sighting.id, tuple((key, random.choice(DIMENSIONS[key][:3])) for key in sorted(keys)), "operator")
