"""What Docker says of a container or network, in our words. Pure: values in, values out.

Which of a container's networks carries its published ports is not in the API. Where a docker-proxy runs it says so
itself (``proxies.py``); elsewhere ``gateway_network`` follows libnetwork's order.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import msgspec

from stockade.adapters.docker.proxies import Proxy
from stockade.adapters.docker.wire import Attached, Binding, Config, Container, Listing, Member, Message, Network, State
from stockade.core.model.ids import Address, HostId, Prefix, Realm, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Bridge,
    Endpoint,
    Facts,
    Published,
    Sighting,
    WorkloadKind,
    WorkloadState,
)
from stockade.core.model.net import Protocol, canonical_address, canonical_prefix
from stockade.seams.runtime import Seen

STATES = {
    "created": WorkloadState.CREATED,
    "running": WorkloadState.RUNNING,
    "paused": WorkloadState.RUNNING,
}
"""All others (exited, dead, removing, and restarting, which waits without a network) are stopped."""

NO_TRAFFIC = frozenset({"host", "null"})
"""Network drivers that give a container no place of its own."""

PROTOCOLS = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP}
ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


class Site(msgspec.Struct, frozen=True):
    """Where the engine is: the host's id, the name that facts carry, the host's own workload."""

    host: HostId
    name: str
    workload: WorkloadId


# Networks


def bridge_name(network: Network) -> str:
    """Return the host's interface that a bridge network is; empty for any other network."""
    if network.driver != "bridge":
        return ""
    return (network.options or {}).get("com.docker.network.bridge.name") or f"br-{network.id[:12]}"


def realm(site: Site, network: Network) -> Realm:
    """Return where the network's addresses are unique: one realm for each bridge, or other network, of a host."""
    return Realm(f"{site.host}/{bridge_name(network) or network.name}")


def bridges(site: Site, networks: Iterable[Network]) -> tuple[Bridge, ...]:
    """Return the bridges that Docker's networks are, by name."""
    found = [
        Bridge(name=bridge_name(network), realm=realm(site, network), subnets=_subnets(network))
        for network in networks
        if network.driver == "bridge"
    ]
    return tuple(sorted(found, key=lambda bridge: bridge.name))


def _subnets(network: Network) -> tuple[Prefix, ...]:
    ranges = network.management.config or []
    return tuple(sorted(canonical_prefix(each.subnet) for each in ranges if each.subnet))


# Containers


def workload_id(site: Site, container: str) -> WorkloadId:
    """Return the id under which a container is known."""
    return WorkloadId(f"docker:{site.host}:{container}")


def newborn(site: Site, message: Message) -> Sighting:
    """Return a container as its own ``create`` event describes it, before the engine can be asked about it."""
    attributes = dict(message.actor.attributes or {})
    name, image = attributes.pop("name", ""), attributes.pop("image", "")
    return Sighting(
        id=workload_id(site, message.actor.id),
        name=name,
        kind=WorkloadKind.CONTAINER,
        host=site.host,
        state=WorkloadState.CREATED,
        facts=_facts(site, image, attributes),
        created=message.nanoseconds / 1e9,
    )


def stopped(sighting: Sighting) -> Sighting:
    """Return what is left of a container when its last process has died."""
    return msgspec.structs.replace(sighting, state=WorkloadState.STOPPED, endpoints=())


def with_birth_of(seen: Seen, told: Seen) -> Seen:
    """Return ``seen``, created when ``told`` says: a listing has whole seconds only."""
    return msgspec.structs.replace(seen, sighting=msgspec.structs.replace(seen.sighting, created=told.sighting.created))


def sighting(site: Site, container: Container, owner: WorkloadId | None, places: tuple[Endpoint, ...] = ()) -> Sighting:
    """Return a container as ``inspect`` describes it; ``places`` are its endpoints while it runs."""
    state = STATES.get(container.state.status, WorkloadState.STOPPED)
    return Sighting(
        id=workload_id(site, container.id),
        name=container.name.removeprefix("/"),
        kind=WorkloadKind.CONTAINER,
        host=site.host,
        state=state,
        endpoints=places if state is WorkloadState.RUNNING and owner is None else (),
        owner=owner,
        facts=_facts(site, container.config.image, container.config.labels or {}),
        created=container.created.timestamp() if container.created else None,
    )


def from_listing(listing: Listing) -> Container:
    """Return what a listing says in the shape of an inspection; it has neither the namespace nor published ports."""
    names = listing.names or ("",)
    return Container(
        id=listing.id,
        name=min(names, key=lambda name: (name.count("/"), name)),  # the others are aliases for linked containers
        created=datetime.fromtimestamp(listing.created, UTC),
        state=State(status=listing.state),
        config=Config(image=listing.image, labels=listing.labels),
        host_config=listing.host_config,
        network_settings=listing.network_settings,
    )


def _facts(site: Site, image: str, labels: Mapping[str, str]) -> Facts:
    return Facts(runtime="docker", image=image, host_name=site.name, labels=tuple(sorted(labels.items())))


# A container's places on networks


def joined(container: Container) -> Iterator[tuple[str, Attached]]:
    """Yield (network id, place) for each network on which the container is now."""
    for place in (container.network_settings.networks or {}).values():
        if place is not None and place.endpoint_id:
            yield place.network_id, place


def of_member(network: Network, member: Member) -> Attached:
    """Return a place as the network describes it, in the shape in which the container would."""
    return Attached(
        network_id=network.id,
        endpoint_id=member.endpoint_id,
        mac_address=member.mac_address,
        address=member.address.partition("/")[0],
        address_v6=member.address_v6.partition("/")[0],
    )


def endpoint(site: Site, network: Network, place: Attached, port: str) -> Endpoint | None:
    """Return the endpoint that a place is; None where its network carries no traffic of its own."""
    if network.driver in NO_TRAFFIC:
        return None
    bridge = bridge_name(network)
    return Endpoint(
        attachment=Attachment.BRIDGED if bridge else Attachment.OPAQUE,
        addresses=_addresses(place),
        port=port if bridge else "",
        bridge=bridge,
        mac=place.mac_address.lower(),
        realm=realm(site, network),
    )


def _addresses(place: Attached) -> tuple[Address, ...]:
    found = {canonical_address(text) for text in (place.address, place.address_v6) if text}
    return tuple(sorted(found))


# Published ports


def gateway_place(container: Container, networks: Mapping[str, Network]) -> Attached | None:
    """Return the place through which the container meets the outside, and which its published ports lead to.

    libnetwork's order: not an internal network; then the higher priority; then one with both families before one
    with a single family; then by the network's name.
    """
    settings = container.network_settings.networks or {}
    candidates = [
        (-place.priority, not (place.gateway and place.gateway_v6), name, place)
        for name, place in settings.items()
        if place is not None and place.endpoint_id and _is_gateway(networks.get(place.network_id))
    ]
    return min(candidates, key=lambda candidate: candidate[:3])[3] if candidates else None


def _is_gateway(network: Network | None) -> bool:
    return network is not None and bridge_name(network) != "" and not network.internal


def published(
    site: Site, container: Container, networks: Mapping[str, Network], proxies: Mapping[tuple[str, str, int], Proxy]
) -> tuple[Published, ...]:
    """Return the host's ports that lead to the container, sorted; ``proxies`` are the docker-proxies that run."""
    place = gateway_place(container, networks)
    own = {address for _, each in joined(container) for address in _addresses(each)}
    found = {
        one
        for transport, port, binding in _bindings(container)
        if (one := _published(workload_id(site, container.id), transport, port, binding, place, own, proxies))
    }
    return tuple(sorted(found, key=msgspec.structs.astuple))


def _bindings(container: Container) -> Iterator[tuple[str, int, Binding]]:
    for key, bindings in (container.network_settings.ports or {}).items():
        port, _, transport = key.partition("/")
        for binding in bindings or ():
            if transport in PROTOCOLS and port.isdigit() and binding.host_port.isdigit() and int(binding.host_port):
                yield transport, int(port), binding


def _published(
    workload: WorkloadId,
    transport: str,
    port: int,
    binding: Binding,
    place: Attached | None,
    own: set[Address],
    proxies: Mapping[tuple[str, str, int], Proxy],
) -> Published | None:
    proxy = proxies.get((transport, binding.host_ip, int(binding.host_port)))
    if proxy is not None and proxy.to_address not in own:
        proxy = None
    to_address = proxy.to_address if proxy else _target(place, binding.host_ip)
    if not to_address:
        return None
    return Published(
        protocol=PROTOCOLS[transport],
        port=int(binding.host_port),
        workload=workload,
        to_address=to_address,
        to_port=proxy.to_port if proxy else port,
        address=_host_address(binding.host_ip, to_address),
        proxied=proxy is not None,
    )


def _target(place: Attached | None, host_ip: str) -> Address | None:
    """Without a proxy a port leads to an address of its own family, and nowhere where there is none."""
    if place is None:
        return None
    text = place.address_v6 if ":" in host_ip else place.address
    return canonical_address(text) if text else None


def _host_address(host_ip: str, to_address: Address) -> str:
    """Return the host address that is published; empty for every one of the target's family.

    ``::`` stays where a docker-proxy takes IPv6 connections to an IPv4 target: it is no address of the other family.
    """
    if host_ip in ANY_ADDRESS:
        same_family = not host_ip or (":" in host_ip) == (":" in to_address)
        return "" if same_family else host_ip
    return canonical_address(host_ip)
