"""What Podman says of a container, in our words. Pure: values in, values out.

What a user's Podman says is that user's word. It is believed of the user's own containers, which cannot be judged
here anyway, and lends no address, port or mark to anybody else's.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from stockade.adapters.podman.wire import Attached, Binding, Container, Event
from stockade.core.model.ids import Address, HostId, Realm, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Endpoint,
    Facts,
    Published,
    Sighting,
    WorkloadKind,
    WorkloadState,
)
from stockade.core.model.net import Protocol, canonical_address
from stockade.seams.places import Place
from stockade.seams.runtime import Seen

STATES = {
    "created": WorkloadState.CREATED,
    "configured": WorkloadState.CREATED,
    "initialized": WorkloadState.CREATED,
    "running": WorkloadState.RUNNING,
    "paused": WorkloadState.RUNNING,
    "stopping": WorkloadState.RUNNING,
}
"""All others (stopped, exited, removing) are stopped."""

CARRIED = ("slirp4netns", "pasta")
"""Network modes in which a process of the host carries a container's traffic, whoever started it."""

BY_PROCESS = "a process of the host carries its traffic, which leaves and arrives as the host's own"
"""Why a container's traffic cannot be told from its host's."""

PROTOCOLS = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP}
ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


class Site(msgspec.Struct, frozen=True):
    """Where Podman is, and whose: the host's id, its name in facts, its own workload; ``uid`` 0 is root's."""

    host: HostId
    name: str
    workload: WorkloadId
    uid: int = 0


def workload_id(site: Site, container: str) -> WorkloadId:
    """Return the id under which a container is known; two users' containers may have the same id."""
    return WorkloadId(f"podman:{site.host}:{site.uid}/{container}" if site.uid else f"podman:{site.host}:{container}")


def named(site: Site, container: str) -> tuple[str, ...]:
    """Return the mark by which other sources know a container. A user could give any id, and so gets none."""
    return () if site.uid else (f"container:{container}",)


# Containers


def newborn(site: Site, event: Event) -> Sighting:
    """Return a container as its own ``create`` event describes it, before Podman can be asked about it."""
    return Sighting(
        id=workload_id(site, event.id),
        name=event.name,
        kind=WorkloadKind.CONTAINER,
        host=site.host,
        state=WorkloadState.CREATED,
        facts=_facts(site, event.image, event.attributes or {}),
        created=event.at,
    )


def stopped(sighting: Sighting) -> Sighting:
    """Return what is left of a container when its last process has died."""
    return msgspec.structs.replace(sighting, state=WorkloadState.STOPPED, endpoints=())


def running(container: Container) -> bool:
    """Tell whether a container has processes, and so a network."""
    return STATES.get(container.state.status) is WorkloadState.RUNNING


def sighting(
    site: Site, container: Container, pods: Mapping[str, str], owner: WorkloadId | None, places: tuple[Endpoint, ...]
) -> Sighting:
    """Return a container as ``inspect`` describes it. A pod is its infra container, by the pod's name in ``pods``."""
    infra = container.is_infra and container.pod
    return Sighting(
        id=workload_id(site, container.id),
        name=(pods.get(container.pod) if infra else "") or container.name,
        kind=WorkloadKind.POD if infra else WorkloadKind.CONTAINER,
        host=site.host,
        state=STATES.get(container.state.status, WorkloadState.STOPPED),
        endpoints=places,
        owner=owner,
        facts=_facts(site, container.image_name, container.config.labels or {}),
        created=container.created.timestamp() if container.created else None,
    )


def _facts(site: Site, image: str, labels: Mapping[str, str]) -> Facts:
    return Facts(runtime="podman", image=image, host_name=site.name, labels=tuple(sorted(labels.items())))


def owner(site: Site, container: Container) -> WorkloadId | None:
    """Return whose network namespace a container uses; None where it is its own. Podman resolves chains itself."""
    mode, _, other = container.host_config.network_mode.partition(":")
    if mode == "host":
        return site.workload
    return workload_id(site, other) if mode == "container" and other else None


# A container's places on networks


def carried(site: Site, container: Container) -> bool:
    """Tell whether a process of the host carries a container's traffic."""
    mode = container.host_config.network_mode.partition(":")[0]
    return mode in CARRIED or (site.uid != 0 and mode != "none")


def endpoints(site: Site, container: Container, place: Place) -> tuple[Endpoint, ...]:
    """Return a running container's endpoints. Its addresses are Podman's word; where there is none, the kernel's."""
    if carried(site, container):
        # Without addresses: they mean something in its user's namespace alone, and the user chooses them.
        return (Endpoint(Attachment.OPAQUE, realm=Realm(f"{site.host}/podman-{site.uid}"), reason=BY_PROCESS),)
    if site.uid:
        return ()
    networks = (container.network_settings.networks or {}).items()
    if not networks:
        return place.endpoints
    found = {each.mac: each for each in place.endpoints}
    return tuple(sorted((_endpoint(site, name, each, found) for name, each in networks), key=msgspec.structs.astuple))


def _endpoint(site: Site, network: str, attached: Attached, found: Mapping[str, Endpoint]) -> Endpoint:
    mac = attached.mac_address.lower()
    unseen = Endpoint(Attachment.BRIDGED, mac=mac, realm=Realm(f"{site.host}/{network}"))
    return msgspec.structs.replace(found.get(mac, unseen), addresses=_addresses(attached))


def incomplete(seen: Seen) -> bool:
    """Tell whether a link of a container has not been found on the host yet."""
    return any(each.attachment is Attachment.BRIDGED and not each.port for each in seen.sighting.endpoints)


def _addresses(attached: Attached) -> tuple[Address, ...]:
    more = (*(attached.more or ()), *(attached.more_v6 or ()))
    texts = (attached.address, attached.address_v6, *(each.address.partition("/")[0] for each in more))
    return tuple(sorted({canonical_address(text) for text in texts if text}))


# Published ports


def published(site: Site, container: Container) -> tuple[Published, ...]:
    """Return the host's ports that lead to root's container by the kernel's translation alone, sorted.

    On several networks each has a rule, and which is met first is not told: all lead to the same workload. What a
    user publishes is a port of a process of the host, and no more than that.
    """
    if site.uid or carried(site, container):
        return ()
    own = sorted({a for each in (container.network_settings.networks or {}).values() for a in _addresses(each)})
    found = {
        one
        for transport, port, binding in _bindings(container)
        for one in _published(workload_id(site, container.id), transport, port, binding, own)
    }
    return tuple(sorted(found, key=msgspec.structs.astuple))


def _bindings(container: Container) -> Iterator[tuple[str, int, Binding]]:
    for key, bindings in (container.network_settings.ports or {}).items():
        port, _, transport = key.partition("/")
        for binding in bindings or ():
            if transport in PROTOCOLS and port.isdigit() and binding.host_port.isdigit() and int(binding.host_port):
                yield transport, int(port), binding


def _published(
    workload: WorkloadId, transport: str, port: int, binding: Binding, own: Iterable[Address]
) -> Iterator[Published]:
    """Yield one for each family that has an address there: a rule translates to an address of its own family."""
    anywhere = binding.host_ip in ANY_ADDRESS
    families = {":" in binding.host_ip} if binding.host_ip else {False, True}
    for family in families:
        target = next((address for address in own if (":" in address) == family), None)
        if target is not None:
            yield Published(
                protocol=PROTOCOLS[transport],
                port=int(binding.host_port),
                workload=workload,
                to_address=target,
                to_port=port,
                address="" if anywhere else canonical_address(binding.host_ip),
            )
