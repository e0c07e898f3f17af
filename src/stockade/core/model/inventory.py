"""What was found: workloads, their endpoints, and the hosts that carry them."""

import enum

import msgspec

from stockade.core.model.ids import Address, HostId, Prefix, Realm, WorkloadId
from stockade.core.model.labels import NO_LABELS, Label, Labels
from stockade.core.model.net import Protocol


class WorkloadKind(str, enum.Enum):
    """What a workload is."""

    CONTAINER = "container"
    HOST = "host"
    VM = "vm"
    NAMESPACE = "namespace"
    POD = "pod"
    INSTANCE = "instance"
    UNMANAGED = "unmanaged"


class WorkloadState(str, enum.Enum):
    """Where a workload is in its life. A stopped one keeps its labels and gives up its endpoints."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class Attachment(str, enum.Enum):
    """How an endpoint meets its host's network."""

    BRIDGED = "bridged"
    """A port of a bridge on the host."""
    ROUTED = "routed"
    """An interface of its own on the host, no bridge between."""
    HOST = "host"
    """The host's own addresses."""
    OPAQUE = "opaque"
    """Traffic never crosses the host's stack (macvlan, ipvlan, SR-IOV), or not as its own: cannot be enforced here."""
    REMOTE = "remote"
    """An unmanaged workload's addresses: no host of ours carries it."""


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """A workload's place on a host's network; one per network namespace and link.

    ``port`` is the host-side interface name (empty for HOST and REMOTE), ``bridge`` the bridge it belongs to
    (empty unless BRIDGED), ``mac`` the endpoint's own, lower case with colons (empty where it has none).
    ``addresses`` are the endpoint's own, in canonical text, sorted; its EUI-64 link-local address need not be listed.
    """

    attachment: Attachment
    addresses: tuple[Address, ...] = ()
    port: str = ""
    bridge: str = ""
    mac: str = ""
    realm: Realm = Realm("")
    reason: str = ""
    """Why an OPAQUE one cannot be enforced here, where it is not that its traffic never crosses the host's stack."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What a source reported of a workload, the input of label rules. Pairs are sorted by key."""

    runtime: str = ""
    image: str = ""
    namespace: str = ""
    host_name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """One workload as a source reports it: everything about it except what policy makes of it.

    ``owner`` is the workload whose network namespace it shares (``--network container:X``, a pod, or the host).
    """

    id: WorkloadId
    name: str
    kind: WorkloadKind
    host: HostId | None = None
    state: WorkloadState = WorkloadState.RUNNING
    endpoints: tuple[Endpoint, ...] = ()
    owner: WorkloadId | None = None
    facts: Facts = Facts()
    created: float | None = None
    """When the runtime says it was created: seconds since the epoch."""
    sources: tuple[str, ...] = ()
    """The sources that see it, the one whose word this is first."""


class Workload(msgspec.Struct, frozen=True, gc=False):
    """A sighting with the labels in force. ``conflicts`` are labels that lost against a more trusted source.

    A workload without any label is *unknown* (``docs/policy.md``, 5). One that shares its owner's network
    namespace has no endpoints of its own and is judged as its owner.
    """

    seen: Sighting
    labels: Labels = NO_LABELS
    conflicts: tuple[Label, ...] = ()

    @property
    def id(self) -> WorkloadId:
        """The id under which it was seen."""
        return self.seen.id

    @property
    def name(self) -> str:
        """Its own name, which selectors read as the dimension ``name``."""
        return self.seen.name

    @property
    def known(self) -> bool:
        """Whether anybody has labelled it."""
        return bool(self.labels.items)


class BridgeState(str, enum.Enum):
    """Where traffic that stays on one bridge can be judged with connection state."""

    INET = "inet"
    """``bridge-nf-call-iptables``/``-ip6tables`` are on: in the inet family."""
    BRIDGE = "bridge"
    """They are off, and the kernel has ``nf_conntrack_bridge``: in the bridge family."""
    NONE = "none"
    """Neither: ``full`` and ``selective`` are refused on this bridge."""


class Bridge(msgspec.Struct, frozen=True):
    """A bridge that carries endpoints. ``subnets`` are the addresses it hands out; ``uplinks`` its physical ports."""

    name: str
    realm: Realm = Realm("")
    subnets: tuple[Prefix, ...] = ()
    uplinks: tuple[str, ...] = ()
    state: BridgeState = BridgeState.INET


class Published(msgspec.Struct, frozen=True):
    """A port of the host that leads to a workload. ``address`` empty: every address of the host.

    ``proxied`` where a local proxy (docker-proxy) listens, so that some paths are two connections.
    """

    protocol: Protocol
    port: int
    workload: WorkloadId
    to_address: Address
    to_port: int
    address: str = ""
    proxied: bool = False


class Failsafe(msgspec.Struct, frozen=True, order=True):
    """A session that must not be cut: from ``source`` to ``port`` of the host itself."""

    source: Address
    protocol: Protocol
    port: int


class Host(msgspec.Struct, frozen=True):
    """A host with an agent: an enforcement point. The host itself is the workload ``workload``.

    ``interfaces`` are its own non-endpoint interfaces (``lo``, uplinks, bridges), through which the outside is met.
    ``unknown`` are endpoints whose link was seen and whose workload was not.
    """

    id: HostId
    workload: WorkloadId
    interfaces: tuple[str, ...] = ()
    bridges: tuple[Bridge, ...] = ()
    published: tuple[Published, ...] = ()
    resolvers: tuple[Address, ...] = ()
    failsafe: tuple[Failsafe, ...] = ()
    unknown: tuple[Endpoint, ...] = ()
