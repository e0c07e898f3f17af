"""A kubelet's part, played by tests: pods and their containers over the Container Runtime Interface (``runtime.v1``).

Calls block: from a coroutine, run them in a thread. Fields are those of the interface's messages, by number.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stockade.adapters.containerd.grpc import CallFailed, Channel, ChannelLost
from stockade.adapters.containerd.protobuf import Message, encode
from stockade.testing.engine_host import EngineError

SERVICE = "runtime.v1.RuntimeService"
POD, NODE = 0, 2
"""Whose network namespace a pod uses: its own, or the host's."""


CONDITIONS = ("RuntimeReady", "NetworkReady")


class Pods:
    """The pods of one runtime. An id is what the runtime calls a pod or a container."""

    def __init__(self, socket: Path, *, cgroup_parent: str = "") -> None:
        self._socket = socket
        self._cgroup_parent = cgroup_parent
        self._configs: dict[str, bytes] = {}

    def run(
        self,
        name: str,
        *,
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        host_network: bool = False,
        runtime: str = "",
    ) -> str:
        """Run an empty pod as a kubelet does, with its labels; return its id. ``RunPodSandbox``."""
        uid = f"uid-{name}"
        config = encode(
            {
                1: encode({1: name, 2: uid, 3: namespace}),
                2: "" if host_network else name,
                6: {
                    **(labels or {}),
                    "io.kubernetes.pod.name": name,
                    "io.kubernetes.pod.namespace": namespace,
                    "io.kubernetes.pod.uid": uid,
                },
                7: annotations or {},
                8: encode(
                    {1: self._cgroup_parent, 2: encode({1: encode({1: NODE if host_network else POD, 2: 1}) or b""})}
                ),
            }
        )
        pod = self._ask("RunPodSandbox", {1: config, 2: runtime}).text(1)
        self._configs[pod] = config
        return pod

    def create(
        self, pod: str, name: str, image: str, command: Sequence[str], *, labels: Mapping[str, str] | None = None
    ) -> str:
        """Create a container in a pod, and do not start it; return its id. ``CreateContainer``."""
        config = encode(
            {
                1: encode({1: name}),
                2: encode({1: image}),
                3: list(command),
                9: {**(labels or {}), "io.kubernetes.container.name": name, **self._pod_labels(pod)},
            }
        )
        return self._ask("CreateContainer", {1: pod, 2: config, 3: self._configs[pod]}).text(1)

    def start(self, container: str) -> None:
        """Start a created container. ``StartContainer``."""
        self._ask("StartContainer", {1: container})

    def stop(self, container: str) -> None:
        """Kill a container. ``StopContainer``."""
        self._ask("StopContainer", {1: container})

    def remove(self, container: str) -> None:
        """Remove a container, running or not. ``RemoveContainer``."""
        self._ask("RemoveContainer", {1: container})

    def stop_pod(self, pod: str) -> None:
        """End a pod and what runs in it, and take its network away. ``StopPodSandbox``."""
        self._ask("StopPodSandbox", {1: pod})

    def remove_pod(self, pod: str) -> None:
        """Stop and remove a pod and its containers. ``RemovePodSandbox``."""
        self.stop_pod(pod)
        self._ask("RemovePodSandbox", {1: pod})

    def list(self) -> list[str]:
        """Return the ids of all pods. ``ListPodSandbox``."""
        return [each.text(1) for each in self._ask("ListPodSandbox", {}).messages(1)]

    def ready(self) -> bool:
        """Tell whether the runtime can run pods, networks included. ``Status``."""
        status = self._ask("Status", {}).message(1)
        met = {each.text(1) for each in status.messages(1) if each.number(2)}
        return met.issuperset(CONDITIONS)

    def _pod_labels(self, pod: str) -> dict[str, str]:
        labels = Message(self._configs[pod]).texts(6)
        return {key: value for key, value in labels.items() if key.startswith("io.kubernetes.pod.")}

    def _ask(self, method: str, request: "Mapping[int, str | bytes]") -> Message:
        exchange = _exchange(self._socket, f"{SERVICE}/{method}", encode(request))
        with ThreadPoolExecutor(1) as aside:  # the caller's thread may have a loop of its own
            return Message(aside.submit(asyncio.run, exchange).result())


async def _exchange(socket: Path, method: str, request: bytes) -> bytes:
    try:
        async with asyncio.timeout(60):
            channel = await Channel.open(str(socket))
            try:
                return await channel.call(method, request)
            finally:
                channel.close()
    except (OSError, ChannelLost, CallFailed) as problem:
        raise EngineError(f"{method} failed: {problem}") from problem
