"""The parts that we read of what the Docker Engine API answers (1.41 and later), and nothing more of it.

Absent and null mean the same. Names are Docker's own.
"""

from datetime import datetime

import msgspec


class _Wire(msgspec.Struct, frozen=True, rename="pascal"):
    """Docker's capitals."""


class Attached(_Wire, frozen=True):
    """A container's place on one network: ``NetworkSettings.Networks`` by network name."""

    network_id: str = msgspec.field(default="", name="NetworkID")
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    mac_address: str = ""
    address: str = msgspec.field(default="", name="IPAddress")
    address_v6: str = msgspec.field(default="", name="GlobalIPv6Address")
    gateway: str = ""
    gateway_v6: str = msgspec.field(default="", name="IPv6Gateway")
    priority: int = msgspec.field(default=0, name="GwPriority")


class Binding(_Wire, frozen=True):
    """One host port that leads to a container's port."""

    host_ip: str = ""
    host_port: str = ""


class NetworkSettings(_Wire, frozen=True):
    """A container's networks, its network namespace and its published ports (``80/tcp`` → bindings)."""

    sandbox_key: str = ""
    networks: dict[str, Attached | None] | None = None
    ports: dict[str, list[Binding] | None] | None = None


class HostConfig(_Wire, frozen=True):
    """Of ``HostConfig`` only whose network the container uses."""

    network_mode: str = ""


class State(_Wire, frozen=True):
    """``status`` is one of created, running, paused, restarting, removing, exited, dead."""

    status: str = ""
    pid: int = 0


class Config(_Wire, frozen=True):
    """What the user asked for."""

    image: str = ""
    labels: dict[str, str] | None = None


class Container(_Wire, frozen=True):
    """``GET /containers/{id}/json``."""

    id: str
    name: str
    created: datetime | None = None
    state: State = State()
    config: Config = Config()
    host_config: HostConfig = HostConfig()
    network_settings: NetworkSettings = NetworkSettings()


class Listing(_Wire, frozen=True):
    """One entry of ``GET /containers/json``: the engine answers it without waiting for the container's own lock."""

    id: str
    names: tuple[str, ...] | None = None
    image: str = ""
    created: int = 0
    labels: dict[str, str] | None = None
    state: str = ""
    host_config: HostConfig = HostConfig()
    network_settings: NetworkSettings = NetworkSettings()


class AddressRange(_Wire, frozen=True):
    """One subnet of a network."""

    subnet: str = ""


class AddressManagement(_Wire, frozen=True):
    """A network's subnets."""

    config: list[AddressRange] | None = None


class Member(_Wire, frozen=True):
    """A container on a network, as the network knows it; addresses carry their prefix length."""

    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    mac_address: str = ""
    address: str = msgspec.field(default="", name="IPv4Address")
    address_v6: str = msgspec.field(default="", name="IPv6Address")


class Network(_Wire, frozen=True):
    """``GET /networks`` and ``GET /networks/{id}`` (the latter alone has ``containers``)."""

    id: str
    name: str
    driver: str = ""
    internal: bool = False
    management: AddressManagement = msgspec.field(default=AddressManagement(), name="IPAM")
    options: dict[str, str] | None = None
    containers: dict[str, Member] | None = None


class Actor(_Wire, frozen=True):
    """Whom an event is about. A container's attributes are its labels, and over them ``image`` and ``name``."""

    id: str = msgspec.field(default="", name="ID")
    attributes: dict[str, str] | None = None


class Message(msgspec.Struct, frozen=True):
    """One event of ``GET /events``."""

    kind: str = msgspec.field(default="", name="Type")
    action: str = msgspec.field(default="", name="Action")
    actor: Actor = msgspec.field(default=Actor(), name="Actor")
    nanoseconds: int = msgspec.field(default=0, name="timeNano")


class Refusal(msgspec.Struct, frozen=True):
    """The body of an answer that is an error."""

    message: str = ""
