"""A real containerd for tests, of Debian's version or a current one, which leaves nothing behind.

It runs on a host of its own (``engine_host``) with its own root, state, sockets, cgroups, bridge and subnets. No
registry is ever asked: the images are made here from the machine's static busybox. Debian's version comes from its
package, the other one, its runc and the CNI plugins are built once (``built``). Containers live on when the daemon is
killed.

    with Containerd() as containerd:
        containerd.run("web", "--label", "tier=front")        # its own network namespace, on the bridge, by CNI
        pod = containerd.pods.run("shop", labels={"app": "shop"})
        containerd.pods.start(containerd.pods.create(pod, "main", IMAGE, ["sleep", "1000"]))

What gates births is put in by the options: hooks in the base spec, plugins in the CNI chain, NRI by its socket.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stockade.testing.built import CNI_PLUGINS, CONTAINERD, RUNC, built
from stockade.testing.busybox import PATH, root_archive
from stockade.testing.cri import Pods
from stockade.testing.engine_host import EngineError, EngineHost
from stockade.testing.lab.entry import entered

DEBIAN = "debian"
CURRENT = CONTAINERD.version
VERSIONS = (DEBIAN, CURRENT)
IMAGE = "localhost/stockade/busybox:1"
PAUSE_IMAGE = "localhost/stockade/pause:1"
KUBERNETES = "k8s.io"
"""The containerd namespace of pods."""
BRIDGE = "cni0"
SUBNETS = ("172.27.0.0/16", "fd00:27::/64")
FOREVER = ("sleep", "100000")

Spec = dict[str, Any]
"""An OCI runtime specification."""


class ContainerdOptions(msgspec.Struct, frozen=True):
    """How containerd is set up.

    ``base_spec`` changes the OCI spec from which every container in a pod is made (``base_runtime_spec``), though not
    the pod's sandbox, which has the network first; ``run`` uses it too where it is told so. ``cni_chain`` are plugins
    chained after the bridge, by their configuration; ``cni_programs`` their programs. ``cni_bin`` and ``cni_conf`` may
    also be filled later: containerd reads them anew. ``nri`` opens the socket ``nri_socket`` (1.6 has none). ``uplink``
    gives the host a wire to a machine outside.
    """

    version: str = DEBIAN
    base_spec: Callable[[Spec], Spec] | None = None
    cni_chain: tuple[Mapping[str, Any], ...] = ()
    cni_programs: tuple[Path, ...] = ()
    nri: bool = True
    uplink: bool = True
    bridge_nf: bool = True


DEFAULTS = ContainerdOptions()


class Containerd(EngineHost):
    """A running containerd, from ``with Containerd() as containerd`` (or ``async with``) to the end of the block."""

    def __init__(self, options: ContainerdOptions = DEFAULTS, *, files: Mapping[str, bytes] | None = None) -> None:
        """``files`` (path → content) are in every container, executable."""
        super().__init__(own_cgroups=True)
        self.options = options
        self._files = dict(files or {})
        self._programs: tuple[Path, ...] = ()
        self._imported: set[str] = set()
        self._pods = Pods(Path())
        self._execs = 0

    def start(self, timeout: float = 60.0) -> None:
        """Start ``containerd`` and wait until it answers, pods included."""
        path = f"PATH={self.environment['PATH']}"
        self._launch(["env", path, "containerd", "--config", str(self._config)], "containerd.log")
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._daemon is None or self._daemon.poll() is not None or time.monotonic() > deadline:
                raise EngineError(f"containerd did not come up:\n{self.log()}", remedy="read its last words above")
            time.sleep(0.05)

    # What tests do with it

    @property
    def socket(self) -> Path:
        """The Unix socket of containerd's API, and of the Container Runtime Interface."""
        return self.root / "containerd.sock"

    @property
    def nri_socket(self) -> Path:
        """The Unix socket for NRI plugins, where the version has it and ``nri`` is on."""
        return self.root / "nri.sock"

    @property
    def cni_bin(self) -> Path:
        """The folder of CNI plugins' programs (``/opt/cni/bin`` on the host)."""
        return self.root / "cni/bin"

    @property
    def cni_conf(self) -> Path:
        """The folder of the CNI configuration (``/etc/cni/net.d`` on the host); ours is ``10-test.conflist``."""
        return self.root / "cni/net.d"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which ``ctr`` finds this containerd, and the host its programs."""
        path = ":".join([*map(str, self._programs), PATH])
        return {**os.environ, "CONTAINERD_ADDRESS": str(self.socket), "PATH": path}

    @property
    def pods(self) -> Pods:
        """Pods, as a kubelet makes them; in the namespace ``k8s.io``."""
        self._import_images(KUBERNETES)
        return self._pods

    def ctr(self, *words: str, namespace: str = "default", timeout: float = 120.0) -> str:
        """Run ``ctr`` in a containerd namespace; return what it printed, stripped."""
        return self.on_host("ctr", "--namespace", namespace, *words, timeout=timeout)

    def run(
        self,
        name: str,
        *words: str,
        namespace: str = "default",
        command: Sequence[str] = FOREVER,
        cni: bool = True,
        spec: Callable[[Spec], Spec] | None = None,
    ) -> int:
        """Start a container in the background; return its pid, as the machine counts.

        ``words`` are options of ``ctr run``. It has a network namespace of its own, joined to the bridge with ``cni``
        (``--net-host`` among the words: the host's). ``spec``: it is run from an OCI spec, the default one changed by
        this function (``options.base_spec``, for one), and from no image.
        """
        net = ["--cni"] if cni else []
        if spec is not None:
            path = self._write_spec(f"{namespace}-{name}", spec, command)
            self.ctr("run", "--detach", *net, *words, "--config", str(path), name, namespace=namespace)
        else:
            self._import_images(namespace)
            self.ctr("run", "--detach", *net, *words, IMAGE, name, *command, namespace=namespace)
        return self.pid(name, namespace)

    def create(self, name: str, *words: str, namespace: str = "default", command: Sequence[str] = FOREVER) -> None:
        """Create a container without a task."""
        self._import_images(namespace)
        self.ctr("containers", "create", *words, IMAGE, name, *command, namespace=namespace)

    def pid(self, name: str, namespace: str = "default") -> int:
        """Return the pid of a container's first process, as the machine counts; 0 where it has no task."""
        rows = (line.split() for line in self.ctr("tasks", "list", namespace=namespace).splitlines()[1:])
        return next((int(row[1]) for row in rows if row[0] == name), 0)

    def remove(self, *names: str, namespace: str = "default") -> None:
        """Kill and delete containers."""
        for name in names:
            with contextlib.suppress(EngineError):  # it may have no task
                self.ctr("tasks", "delete", "--force", name, namespace=namespace)
            self.ctr("containers", "delete", name, namespace=namespace)
            self._release(f"{namespace}-{name}")

    def exec(self, name: str, *command: str, namespace: str = "default") -> str:
        """Run a command in a container; return what it printed, stripped."""
        self._execs += 1
        return self.ctr("tasks", "exec", "--exec-id", f"exec-{self._execs}", name, *command, namespace=namespace)

    def within(self, pid: int) -> list[str]:
        """Return the words before a command that run the machine's own tools in a process's network namespace."""
        return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]

    def clear(self) -> None:
        """Remove every pod and every container in every namespace."""
        for pod in self._pods.list():
            self._pods.remove_pod(pod)
        for namespace in self.ctr("namespaces", "list", "--quiet").split():
            self.remove(*self.ctr("containers", "list", "--quiet", namespace=namespace).split(), namespace=namespace)

    def log(self, lines: int = 40) -> str:
        """Return the last lines of the daemon's log."""
        return "\n".join((self.root / "containerd.log").read_text(errors="replace").splitlines()[-lines:])

    # Opening

    def _open(self) -> None:
        self._programs = () if self.options.version == DEBIAN else (built(CONTAINERD), built(RUNC))
        plugins = built(CNI_PLUGINS)
        self._make_host(uplink=self.options.uplink, bridge_nf=self.options.bridge_nf)
        self._lay_cni(plugins)
        if self.options.base_spec is not None:
            spec = self.options.base_spec(self._default_spec())
            (self.root / "base-spec.json").write_text(json.dumps(spec))
        self._config.write_text(self._configuration())
        self._pods = Pods(self.socket)
        self.start()

    @property
    def _config(self) -> Path:
        return self.root / "config.toml"

    def _lay_cni(self, plugins: Path) -> None:
        self.cni_bin.mkdir(parents=True)
        self.cni_conf.mkdir()
        for program in (*plugins.iterdir(), *self.options.cni_programs):
            shutil.copy(program, self.cni_bin / program.name)
        (self.cni_conf / "10-test.conflist").write_text(json.dumps(self._network()))
        lines = [f"rm -rf {there}; mkdir -p {there.parent}; ln -s {here} {there}" for here, there in self._links()]
        self.on_host("sh", "-ec", "\n".join(lines))

    def _links(self) -> list[tuple[Path, Path]]:
        return [(self.cni_bin, Path("/opt/cni/bin")), (self.cni_conf, Path("/etc/cni/net.d"))]

    def _network(self) -> dict[str, Any]:
        ranges = [[{"subnet": each}] for each in SUBNETS]
        routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        addresses = {"type": "host-local", "dataDir": str(self.root / "leases"), "ranges": ranges, "routes": routes}
        bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipam": addresses}
        return {"cniVersion": "0.4.0", "name": "test", "plugins": [bridge, *self.options.cni_chain]}

    def _release(self, name: str) -> None:
        """Give a container's addresses back: ``ctr`` does not, and refuses them to the next one of its name."""
        for lease in (self.root / "leases/test").glob("[0-9a-f]*"):
            with contextlib.suppress(FileNotFoundError):  # somebody else's, given back meanwhile
                if lease.read_text().split()[:1] == [name]:  # empty: just being given
                    lease.unlink()

    def _configuration(self) -> str:
        template = CONFIG_1 if self.options.version == DEBIAN else CONFIG_2
        base = f'base_runtime_spec = "{self.root}/base-spec.json"' if self.options.base_spec else ""
        no_nri = str(not self.options.nri).lower()
        return template.format(root=self.root, pause=PAUSE_IMAGE, base=base, no_nri=no_nri)

    def _answers(self) -> bool:
        try:
            return self._pods.ready()
        except EngineError:
            return False

    # Specs and images

    def _default_spec(self) -> Spec:
        spec: Spec = json.loads(self.on_host("ctr", "oci", "spec"))
        return spec

    def _write_spec(self, name: str, change: Callable[[Spec], Spec], command: Sequence[str]) -> Path:
        root = self.root / "rootfs"
        if not root.exists():
            with tarfile.open(fileobj=io.BytesIO(root_archive(self._files))) as archive:
                archive.extractall(root, filter="fully_trusted")
        spec = self._default_spec()
        spec["root"] = {"path": str(root)}
        spec["process"]["args"] = list(command)
        spec["process"]["env"] = [f"PATH={PATH}"]
        spec["linux"]["cgroupsPath"] = f"/default/{name}"
        path = self.root / f"spec-{name}.json"
        path.write_text(json.dumps(change(spec)))
        return path

    def _import_images(self, namespace: str) -> None:
        if namespace in self._imported:
            return
        path = self.root / "images.tar"
        if not path.exists():
            path.write_bytes(images(self._files))
        self.ctr("images", "import", str(path), namespace=namespace)
        self._imported.add(namespace)


def images(more: Mapping[str, bytes]) -> bytes:
    """Return busybox as an archive of two images, as ``docker save`` writes it; the second one only sleeps.

    ``more``: files (path → content) that are in both, executable.
    """
    layer = root_archive(more)
    files = {"layer.tar": layer}
    manifest = []
    for name, command in ((IMAGE, ["/bin/sh"]), (PAUSE_IMAGE, ["/bin/sleep", "2000000000"])):
        config = json.dumps(
            {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
                "os": "linux",
                "config": {"Env": [f"PATH={PATH}"], "Cmd": command},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            }
        ).encode()
        path = f"{hashlib.sha256(config).hexdigest()}.json"
        files[path] = config
        manifest.append({"Config": path, "RepoTags": [name], "Layers": ["layer.tar"]})
    return _archive({**files, "manifest.json": json.dumps(manifest).encode()})


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


CONFIG_1 = """
version = 2
root = "{root}/root"
state = "{root}/state"
[grpc]
address = "{root}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{base}
"""

CONFIG_2 = """
version = 3
root = "{root}/root"
state = "{root}/state"
[grpc]
address = "{root}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{base}
[plugins."io.containerd.nri.v1.nri"]
disable = {no_nri}
socket_path = "{root}/nri.sock"
plugin_path = "/opt/nri/plugins"
plugin_config_path = "/etc/nri/conf.d"
"""


def why_not() -> str:
    """Say why a containerd cannot be started here; empty where it can."""
    if missing := [each for each in ("containerd", "runc", "busybox") if shutil.which(each, path=PATH) is None]:
        return f"{', '.join(missing)} not installed (make setup)"
    # A user namespace shows root, and mounts and cgroups are refused all the same.
    return "" if os.geteuid() == 0 and not entered() else "containerd needs root outside a user namespace"
