"""Hosts on which workloads are born: every runtime's, each with the birth gate by its own means or without.

A nursery starts and removes workloads of a shop by the means of its runtime. Who was there before anybody was born:
``api-1`` (whom newborns may ask), ``db-1`` (whom they may not), and ``other`` (of no shop).
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cradle import ADDRESSES
from bench.guarded import Guarded
from bench.newborns import Place, Watch
from bench.stopwatch import Stopwatch
from stockade.cli.gate_files import COPIED
from stockade.core.gate import Call
from stockade.core.gate.cni import PROGRAM as CNI_PROGRAM
from stockade.core.gate.docker import PATH as DOCKER_CONFIG
from stockade.core.gate.hooks import PODMAN as PODMAN_HOOK
from stockade.core.gate.toml import PATH as CONTAINERD_CONFIG
from stockade.errors import StockadeError
from stockade.testing.containerd import CURRENT, DEBIAN, IMAGE, KUBERNETES, Containerd, ContainerdOptions
from stockade.testing.engine import Engine
from stockade.testing.engine_host import EngineHost
from stockade.testing.podman import Podman, PodmanOptions

PROGRAM = "/bin/newborn"
NETWORK = "shop"
RESIDENTS = {"api-1": "api", "db-1": "db", "other": ""}
FOREVER = ("sleep", "100000")
REFUSAL = "stockade: not started"
"""What the gate says where it lets nothing be started."""
INSISTING = 120.0
"""Seconds for which what the gate refuses is tried again."""


class Nursery:
    """One host and its runtime. ``kind`` is how figures call it; ``follow`` how ``stockade up`` is told of it."""

    kind = ""
    follow: tuple[str, ...] = ()
    policy = ""
    """What must be applied besides the shop's policy, for its workloads to have labels."""
    gateway = ""
    program = PROGRAM

    def __init__(self, host: EngineHost) -> None:
        self.host = host
        self.refused = 0
        """Starts that the gate refused and that were tried again."""

    def settle_in(self) -> None:
        """Make the shop's network, and who is there before anybody is born."""
        self._network()
        for number, (name, role) in enumerate(RESIDENTS.items()):
            self.start(name, role, FOREVER, number - len(RESIDENTS))

    async def put_gate(self, by: Guarded, stopwatch: Stopwatch | None = None) -> None:
        """Put the gate into the runtime, as its user does. With a stopwatch, its own runs are timed."""

    def start(self, name: str, role: str, argv: Sequence[str], number: int) -> None:
        """Start a workload of the shop; without a role, of nobody's."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """End a workload and take it away."""
        raise NotImplementedError

    def pid(self, name: str) -> int:
        """Return a process of a workload, as the machine counts."""
        raise NotImplementedError

    def address(self, number: int) -> str:
        """Return the IPv4 address that a newborn will have."""
        return f"{self.gateway.rpartition('.')[0]}.{100 + number % ADDRESSES}"

    def watch(self) -> Watch:
        """Return who is asked and tried by newborns, and who tries them."""
        other, host = self._place("other"), Place(f"/proc/{self.host.host_pid}/ns/net", self.gateway)
        return Watch(self._place("api-1"), self._place("db-1"), [other], [other, host])

    # A cradle

    async def bear(self, number: int, argv: list[str]) -> None:
        """Start a newborn; the runtime itself tells of it. What the gate refuses is tried again, as whoever runs
        containers does: where an agent cannot answer in time, nothing is started.
        """
        deadline = time.monotonic() + INSISTING
        while True:
            try:
                return await asyncio.to_thread(self.start, _name(number), "web", argv, number)
            except StockadeError as problem:
                if REFUSAL not in str(problem) or time.monotonic() > deadline:
                    raise
            self.refused += 1
            with contextlib.suppress(StockadeError):  # runtimes leave more or less of it behind
                await self.bury(number)

    async def bury(self, number: int) -> None:
        """Remove a newborn."""
        await asyncio.to_thread(self.remove, _name(number))

    # Within

    def _network(self) -> None:
        raise NotImplementedError

    def _place(self, name: str) -> Place:
        netns = f"/proc/{self.pid(name)}/ns/net"
        (link,) = json.loads(
            self.host.on_host("nsenter", f"--net={netns}", "ip", "-j", "address", "show", "dev", "eth0")
        )
        found = [each["local"] for each in link["addr_info"] if each["scope"] == "global"]
        six = next((each for each in found if ":" in each), "")
        return Place(netns, next(each for each in found if ":" not in each), six, link["address"])

    def _resident(self, number: int) -> str:
        """Return the address of who was there before, numbered from below zero."""
        return f"{self.gateway.rpartition('.')[0]}.{20 + number}" if number < 0 else self.address(number)

    def _read(self, path: str) -> str:
        return self.host.on_host("cat", path)

    def _write(self, path: str, text: str) -> None:
        script = f"mkdir -p {Path(path).parent}; cat > {path}"
        subprocess.run([*self.host.inside, "sh", "-ec", script], input=text.encode(), check=True, capture_output=True)

    def _replace(self, path: str, old: str, new: str) -> None:
        text = self._read(path)
        if old not in text:
            raise StockadeError(f"{path} has no {old}")
        self._write(path, text.replace(old, new))


def _name(number: int) -> str:
    return f"born-{number}"


def _compose(role: str) -> list[str]:
    labels = ("com.docker.compose.project=shop", f"com.docker.compose.service={role}") if role else ()
    return [word for each in labels for word in ("--label", each)]


# Docker

TIMED_RUNC = """#!/bin/sh
# As runc; the gate's hook in a new container's bundle is then the one that is timed.
for word; do
    if [ "$word" = create ]; then create=yes; fi
    if [ "$last" = --bundle ]; then at=$word; fi
    last=$word
done
if [ "$create" ]; then sed -i 's#"path":"GATE"#"path":"TIMED"#' "${at:-.}/config.json"; fi
exec runc "$@"
"""


class DockerNursery(Nursery):
    """Containers of a Docker engine."""

    follow = ("--no-podman",)
    gateway = "172.30.0.1"

    def __init__(self, newborn: bytes, *, gate: bool) -> None:
        self.engine = Engine(files={PROGRAM: newborn})
        self.kind = "Docker with the gate" if gate else "Docker"
        self._gate = gate
        super().__init__(self.engine)

    async def put_gate(self, by: Guarded, stopwatch: Stopwatch | None = None) -> None:
        """Put the gate in, as its user does."""
        if not self._gate:
            return
        await asyncio.to_thread(by.cli, "gate", "install", "docker", "--yes")
        if stopwatch is not None:
            timed = self.host.root / "timed-runc"
            timed.write_text(TIMED_RUNC.replace("GATE", COPIED).replace("TIMED", str(stopwatch.program), 1))
            timed.chmod(0o755)
            config = json.loads(self._read(DOCKER_CONFIG))
            words = config["runtimes"]["stockade"]["runtimeArgs"]
            words[words.index("--") + 1 :] = [str(timed)]
            self._write(DOCKER_CONFIG, json.dumps(config))
        self.engine.reload()
        await by.until(lambda: self._default() == "stockade", "so far that Docker heeds the gate")

    def start(self, name: str, role: str, argv: Sequence[str], number: int) -> None:
        """Start a container."""
        words = ("run", "-d", "--name", name, "--network", NETWORK, "--ip", self._resident(number), *_compose(role))
        self.engine.docker(*words, self.engine.image, *argv, timeout=300)

    def remove(self, name: str) -> None:
        """Remove a container."""
        self.engine.remove(name)

    def pid(self, name: str) -> int:
        """Return the pid of a container's first process."""
        return self.engine.pid(name)

    def _network(self) -> None:
        subnet = ("--subnet", "172.30.0.0/24", "--ipv6", "--subnet", "fd00:30::/64")
        self.engine.docker("network", "create", *subnet, NETWORK)

    def _default(self) -> str:
        return self.engine.docker("info", "--format", "{{.DefaultRuntime}}")


# Podman


class PodmanNursery(Nursery):
    """Root's containers of Podman."""

    follow = ("--podman",)
    gateway = "172.31.0.1"

    def __init__(self, newborn: bytes, *, gate: bool) -> None:
        self.podman = Podman(PodmanOptions(hooks=(Path(PODMAN_HOOK).parent,)), files={PROGRAM: newborn})
        self.kind = "Podman with the gate" if gate else "Podman"
        self._gate = gate
        super().__init__(self.podman)

    async def put_gate(self, by: Guarded, stopwatch: Stopwatch | None = None) -> None:
        """Put the gate in, as its user does."""
        if not self._gate:
            return
        await asyncio.to_thread(by.cli, "gate", "install", "podman", "--yes")
        if stopwatch is not None:
            self._replace(PODMAN_HOOK, f'"path": "{COPIED}"', f'"path": "{stopwatch.program}"')

    def start(self, name: str, role: str, argv: Sequence[str], number: int) -> None:
        """Start a container."""
        # Unlike the others it gives no raw sockets; a newborn makes frames of its own.
        words = ("--network", NETWORK, "--ip", self._resident(number), "--cap-add", "NET_RAW", *_compose(role))
        self.podman.run(name, *words, command=argv, init=False)

    def remove(self, name: str) -> None:
        """Remove a container."""
        self.podman.remove(name)

    def pid(self, name: str) -> int:
        """Return the pid of a container's first process."""
        return self.podman.pid(name)

    def _network(self) -> None:
        self.host.on_host("mkdir", "-p", str(Path(PODMAN_HOOK).parent))
        subnet = ("--subnet", "172.31.0.0/24", "--ipv6", "--subnet", "fd00:31::/64")
        self.podman.podman("network", "create", "--disable-dns", *subnet, NETWORK)


# containerd

HOOK, CNI, BASE_SPEC, NRI = "hook in the spec", "CNI plugin", "hook in the base spec", "NRI plugin"
BY_HAND = (HOOK, CNI)
"""Ways of the gate that ``ctr run`` meets; the others are met by pods."""


class ContainerdNursery(Nursery):
    """Containers of containerd, by ``ctr run`` or in pods, as the gate's way asks for."""

    follow = ("--containerd", "--no-docker", "--no-podman")
    gateway = "172.27.0.1"

    def __init__(self, newborn: bytes, version: str, way: str, *, gate: bool) -> None:
        self.containerd = Containerd(ContainerdOptions(version=version), files={PROGRAM: newborn})
        run = "ctr run" if way in BY_HAND else "pods"
        name = "containerd 1.6" if version == DEBIAN else f"containerd {CURRENT.rpartition('.')[0]}"
        self.kind = f"{name}, {run}" + (f", gate as {way}" if gate else "")
        self._way, self._gate = way, gate
        self._hook: dict[str, Any] | None = None
        self._pods: dict[str, tuple[str, str]] = {}
        self._last = 0
        super().__init__(self.containerd)

    async def put_gate(self, by: Guarded, stopwatch: Stopwatch | None = None) -> None:
        """Put the gate in, as its user does."""
        if self._gate:
            await asyncio.to_thread(self._put_gate, by, stopwatch)

    def _put_gate(self, by: Guarded, stopwatch: Stopwatch | None) -> None:
        match self._way:
            case "CNI plugin":
                by.cli("gate", "install", "cni", "--yes")
                if stopwatch is not None:
                    self.host.on_host("cp", str(stopwatch.program), CNI_PROGRAM)
            case "hook in the spec":
                by.cli("gate", "install", "containerd", "--yes")  # the program itself; ``ctr`` reads no base spec
                program = str(stopwatch.program) if stopwatch is not None else COPIED
                self._hook = Call(program, str(by.socket), str(by.births)).hook()
            case "hook in the base spec":
                self._configured(lambda: by.cli("gate", "install", "containerd", "--yes"))
                if stopwatch is not None:
                    path = "/etc/containerd/stockade-runc.json"
                    self._replace(path, f'"path": "{COPIED}"', f'"path": "{stopwatch.program}"')
                self.containerd.restart()
            case "NRI plugin":
                self._configured(lambda: by.cli("gate", "install", "nri", "--yes"))
                self.containerd.restart()

    def _configured(self, edit: Callable[[], None]) -> None:
        """Let a verb edit the configuration that this containerd was started with, where it looks for it."""
        own = self.containerd.root / "config.toml"
        self._write(CONTAINERD_CONFIG, own.read_text())
        edit()
        own.write_text(self._read(CONTAINERD_CONFIG) + "\n")

    def start(self, name: str, role: str, argv: Sequence[str], number: int) -> None:  # noqa: ARG002
        """Start a container."""
        labels = {"stockade.app": "shop", "stockade.role": role} if role else {}
        if self._way in BY_HAND:
            words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
            self.containerd.run(name, *words, command=argv, spec=self._hooked if self._way == HOOK else None)
            return
        pods = self.containerd.pods
        pod = pods.run(name, labels=labels)
        self._pods[name] = (pod, "")  # it goes, should its container be refused
        self._pods[name] = (pod, pods.create(pod, "main", IMAGE, argv))
        pods.start(self._pods[name][1])

    def remove(self, name: str) -> None:
        """Remove a container."""
        if self._way in BY_HAND:
            self.containerd.remove(name)
        elif name in self._pods:
            self.containerd.pods.remove_pod(self._pods.pop(name)[0])

    def pid(self, name: str) -> int:
        """Return the pid of a container's first process."""
        if self._way in BY_HAND:
            return self.containerd.pid(name)
        return self.containerd.pid(self._pods[name][1], KUBERNETES)

    def address(self, number: int) -> str:  # noqa: ARG002
        """Addresses are given one after the other; what was given last is on disk."""
        given = self.containerd.root / "leases/test/last_reserved_ip.0"
        on_disk = int(given.read_text().rpartition(".")[2]) + 256 * int(given.read_text().split(".")[2])
        self._last = max(self._last, on_disk) + 1
        return f"172.27.{self._last // 256}.{self._last % 256}"

    def _network(self) -> None:
        """The bridge is made by the first who joins it."""

    def _hooked(self, spec: dict[str, Any]) -> dict[str, Any]:
        if self._hook is None:
            return spec
        return {**spec, "hooks": {"createRuntime": [self._hook]}}


# Plain network namespaces

LABELS = """
apiVersion: stockade.dev/v1
kind: LabelRule
metadata: {{name: {name}}}
spec:
  source: runtime
  where: {{runtime: namespace, name: "{name}-*"}}
  set: {{app: shop, role: {role}}}
---
"""


class BareEngine(EngineHost):
    """A host without any engine, with one bridge."""

    def _open(self) -> None:
        self._make_host(uplink=True, bridge_nf=True)
        steps = ["mkdir -p /run/netns", "ip link add br0 type bridge", "ip address add 10.98.0.1/24 dev br0"]
        self.on_host("sh", "-ec", "; ".join([*steps, "ip link set br0 up"]))


class NamespaceNursery(Nursery):
    """Programs in network namespaces made by ``ip netns``, of which nobody tells but the kernel."""

    kind = "plain network namespaces"
    follow = ("--no-docker", "--no-podman", "--no-containerd")
    gateway = "10.98.0.1"
    policy = "".join(
        LABELS.format(name=name, role=role) for name, role in (("born", "web"), ("api", "api"), ("db", "db"))
    )

    def __init__(self, program: Path) -> None:
        self.program = str(program)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        super().__init__(BareEngine())

    def start(self, name: str, role: str, argv: Sequence[str], number: int) -> None:  # noqa: ARG002
        """Start a program in a namespace that has no link yet, then lay it."""
        self.host.on_host("ip", "netns", "add", name)
        self._processes[name] = self.host.begin("ip", "netns", "exec", name, *argv)
        port = f"v{self._resident(number).rpartition('.')[2]}"
        steps = [
            f"ip link add {port} type veth peer name eth0 netns {name}",
            f"ip link set {port} master br0 up",
            f"ip -n {name} address add {self._resident(number)}/24 dev eth0",
            f"ip -n {name} link set eth0 up",
        ]
        self.host.on_host("sh", "-ec", "; ".join(steps))

    def remove(self, name: str) -> None:
        """Remove a container."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        self.host.on_host("ip", "netns", "delete", name)

    def pid(self, name: str) -> int:
        """Return the pid of a container's first process."""
        return self._processes[name].pid

    def _network(self) -> None:
        """It is there."""


def nurseries(program: Path) -> Mapping[str, Callable[..., Nursery]]:
    """Return how to make each nursery, by its name in ``KINDS``; ``gate=False`` leaves the gate out."""
    newborn = program.read_bytes()
    made: dict[str, Callable[..., Nursery]] = {
        "docker": lambda gate=False: DockerNursery(newborn, gate=gate),
        "docker-gate": lambda gate=True: DockerNursery(newborn, gate=gate),
        "podman-gate": lambda gate=True: PodmanNursery(newborn, gate=gate),
        "namespaces": lambda: NamespaceNursery(program),
    }
    made |= {name: _containerd(newborn, version, way) for name, (version, way) in CONTAINERD.items()}
    return {name: made[name] for name in KINDS}


SHORT = {HOOK: "hook", CNI: "cni", BASE_SPEC: "base-spec", NRI: "nri"}
CONTAINERD = {
    f"containerd-{version.rpartition('.')[0] or '1.6'}-{SHORT[way]}": (version, way)
    for version, ways in ((DEBIAN, (HOOK, CNI, BASE_SPEC)), (CURRENT, (HOOK, CNI, BASE_SPEC, NRI)))
    for way in ways
}
KINDS = ("docker", "docker-gate", "podman-gate", *CONTAINERD, "namespaces")


def _containerd(newborn: bytes, version: str, way: str) -> Callable[..., Nursery]:
    return lambda gate=True: ContainerdNursery(newborn, version, way, gate=gate)


@contextlib.contextmanager
def starving(pid: int) -> Iterator[None]:
    """Keep every processor busy, and stop a process and let it go on again and again, while the block lasts."""
    loops = [subprocess.Popen(["taskset", "-c", str(each), "sh", "-c", "while :; do :; done"]) for each in _cores()]
    script = f"while kill -STOP {pid}; do sleep 0.2; kill -CONT {pid}; sleep 0.2; done"
    storm = subprocess.Popen(["sh", "-c", script], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        for each in (*loops, storm):
            each.kill()
            each.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))
