"""The parts that we read of what ``podman`` prints (4.3 and later), and nothing more of it.

Absent and null mean the same. Names are Podman's own.
"""

from datetime import datetime

import msgspec


class _Wire(msgspec.Struct, frozen=True, rename="pascal"):
    """Podman's capitals."""


class Event(msgspec.Struct, frozen=True):
    """One line of ``podman events --format json``. A container's ``attributes`` are its labels."""

    kind: str = msgspec.field(default="", name="Type")
    action: str = msgspec.field(default="", name="Status")
    id: str = msgspec.field(default="", name="ID")
    name: str = msgspec.field(default="", name="Name")
    image: str = msgspec.field(default="", name="Image")
    pod: str = msgspec.field(default="", name="PodID")
    time: datetime | None = msgspec.field(default=None, name="Time")
    nanoseconds: int = msgspec.field(default=0, name="timeNano")
    attributes: dict[str, str] | None = msgspec.field(default=None, name="Attributes")

    @property
    def at(self) -> float:
        """When it happened: seconds since the epoch."""
        return self.time.timestamp() if self.time else self.nanoseconds / 1e9


class Listing(_Wire, frozen=True):
    """One entry of ``podman ps --all --format json``: what does not change while nothing happens to a container."""

    id: str
    names: tuple[str, ...] | None = None
    state: str = ""
    pid: int = 0
    started_at: int = 0
    networks: tuple[str, ...] | None = None


class PodListing(_Wire, frozen=True):
    """One entry of ``podman pod ps --format json``."""

    id: str
    name: str = ""


class SecondAddress(_Wire, frozen=True):
    """A further address on a network."""

    address: str = msgspec.field(default="", name="Addr")


class Attached(_Wire, frozen=True):
    """A container's place on one network: ``NetworkSettings.Networks`` by network name."""

    mac_address: str = ""
    address: str = msgspec.field(default="", name="IPAddress")
    address_v6: str = msgspec.field(default="", name="GlobalIPv6Address")
    more: tuple[SecondAddress, ...] | None = msgspec.field(default=None, name="SecondaryIPAddresses")
    more_v6: tuple[SecondAddress, ...] | None = msgspec.field(default=None, name="SecondaryIPv6Addresses")


class Binding(_Wire, frozen=True):
    """One host port that leads to a container's port."""

    host_ip: str = ""
    host_port: str = ""


class NetworkSettings(_Wire, frozen=True):
    """A container's networks, its network namespace and its published ports (``80/tcp`` → bindings)."""

    sandbox_key: str = ""
    networks: dict[str, Attached] | None = None
    ports: dict[str, tuple[Binding, ...] | None] | None = None


class HostConfig(_Wire, frozen=True):
    """Of ``HostConfig`` only whose network the container uses."""

    network_mode: str = ""


class State(_Wire, frozen=True):
    """``status`` is one of created, configured, initialized, running, paused, stopping, stopped, exited, removing."""

    status: str = ""
    pid: int = 0


class Config(_Wire, frozen=True):
    """What the user asked for."""

    labels: dict[str, str] | None = None


class Container(_Wire, frozen=True):
    """One entry of ``podman container inspect``."""

    id: str
    name: str = ""
    created: datetime | None = None
    image_name: str = ""
    pod: str = ""
    is_infra: bool = False
    state: State = State()
    config: Config = Config()
    host_config: HostConfig = HostConfig()
    network_settings: NetworkSettings = NetworkSettings()
