"""The parts that we read of what containerd's API says (1.6 and later), and nothing more of it.

Decoded from Protocol Buffers by field number. A ``Container``'s spec, which is by far its largest part, is
stepped over.
"""

import enum
from collections.abc import Mapping

import msgspec

from stockade.adapters.containerd.protobuf import Message
from stockade.decoding import ready

NAMESPACES = "containerd.services.namespaces.v1.Namespaces"
CONTAINERS = "containerd.services.containers.v1.Containers"
TASKS = "containerd.services.tasks.v1.Tasks"
EVENTS = "containerd.services.events.v1.Events"
VERSION = "containerd.services.version.v1.Version"

CRI_METADATA = "io.cri-containerd.container.metadata"
"""An extension of a container in a pod: JSON, which says whose sandbox it is in."""


class Key(msgspec.Struct, frozen=True, order=True):
    """What tells a container from every other one that this containerd knows."""

    namespace: str
    id: str


class Container(msgspec.Struct, frozen=True):
    """What containerd keeps of a container. ``sandbox``: the id of the pod's sandbox that it is in."""

    key: Key
    created: float
    """Seconds since the epoch."""
    image: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    sandbox: str = ""

    def label(self, name: str) -> str:
        """Return a label's value; empty where it has none."""
        return next((value for key, value in self.labels if key == name), "")


class Status(enum.IntEnum):
    """What a task is doing."""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


class Task(msgspec.Struct, frozen=True):
    """A container's first process."""

    pid: int
    status: Status

    @property
    def lives(self) -> bool:
        """Whether its process is there."""
        return self.pid > 0 and self.status is not Status.STOPPED


class Happened(msgspec.Struct, frozen=True):
    """An event: ``topic`` is like ``/tasks/start``; ``process`` is set where it is about an exec, not the container."""

    key: Key
    topic: str
    at: float
    process: str = ""


class _Metadata(msgspec.Struct, frozen=True, rename={"sandbox": "SandboxID"}):
    sandbox: str = ""


class _CriMetadata(msgspec.Struct, frozen=True, rename={"metadata": "Metadata"}):
    metadata: _Metadata = _Metadata()


def namespaces(answer: bytes) -> list[str]:
    """Read ``ListNamespacesResponse``."""
    return [each.text(1) for each in Message(answer).messages(1)]


def container(namespace: str, answer: bytes) -> Container:
    """Read ``GetContainerResponse``, or one message of ``ListStream``; in both the container is the first field."""
    found = Message(answer).message(1)
    return Container(
        key=Key(namespace, found.text(1)),
        created=_seconds(found.message(8)),
        image=found.text(3),
        labels=tuple(sorted(found.texts(2).items())),
        sandbox=found.text(11) or _sandbox_by_extension(found),
    )


def task(answer: bytes) -> Task:
    """Read ``GetResponse`` of a task."""
    return _task(Message(answer).message(1))


def tasks(namespace: str, answer: bytes) -> dict[Key, Task]:
    """Read ``ListTasksResponse``."""
    return {Key(namespace, each.text(2)): _task(each) for each in Message(answer).messages(1)}


def happened(answer: bytes) -> Happened:
    """Read an ``Envelope``. In every event that we follow the first field is the container's id."""
    envelope = Message(answer)
    topic, about = envelope.text(3), envelope.message(4).message(2)
    id_ = about.text(1)
    process = about.text(PROCESS_FIELDS[topic]) if topic in PROCESS_FIELDS else ""
    return Happened(Key(envelope.text(2), id_), topic, _seconds(envelope.message(1)), process if process != id_ else "")


PROCESS_FIELDS: Mapping[str, int] = {"/tasks/exit": 2, "/tasks/delete": 5}
"""Where an event says which process it is about: the container's first one has the container's id, or none."""


def _task(process: Message) -> Task:
    number = process.number(4)
    known = number in Status.__members__.values()
    return Task(pid=process.number(3), status=Status(number) if known else Status.UNKNOWN)


def _seconds(timestamp: Message) -> float:
    return timestamp.number(1) + timestamp.number(2) / 1e9


def _sandbox_by_extension(found: Message) -> str:
    """Before containerd 2.0 only the CRI plugin knows: a map from text to Any, whose value is the second field."""
    extension = next((each.message(2) for each in found.messages(10) if each.text(1) == CRI_METADATA), None)
    if extension is None:
        return ""
    try:
        return msgspec.json.decode(extension.data(2), type=ready(_CriMetadata)).metadata.sandbox
    except msgspec.MsgspecError:
        return ""
