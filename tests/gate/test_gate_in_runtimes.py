"""The birth gate in real runtimes: what could not be contained is not started, and the runtime says why."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from test_gate_program import PROGRAM

from contained import Contained, contained
from stockade.testing import containerd as containerds
from stockade.testing.containerd import FOREVER, IMAGE, Containerd, ContainerdOptions
from stockade.testing.engine_host import EngineError, EngineHost
from stockade.testing.podman import Podman, PodmanOptions, why_not

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not PROGRAM.exists(), reason="this machine has no C compiler: the gate was not built"),
]

HOLD = """
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: shop}
spec: {select: app = shop, mode: full, priority: 10}
"""
HOOKS = Path("/etc/containers/oci/hooks.d")
CRIO_HOOKS = Path("/usr/share/containers/oci/hooks.d")
CONFIG = "/etc/containerd/config.toml"


class Runtime(NamedTuple):
    """A running runtime, how something is born there, and what ``up`` is told to follow."""

    engine: EngineHost
    bear: Callable[[str], object]
    flags: tuple[str, ...] = ()
    heed: Callable[[], None] = lambda: None


@contextlib.contextmanager
def podman(hooks: Path) -> Iterator[Runtime]:
    """Podman, which reads its hooks in one folder; CRI-O reads its own folder by the same library."""
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")
    with Podman(PodmanOptions(hooks=(hooks,))) as engine:
        yield Runtime(engine, engine.run, ("--podman",))


@contextlib.contextmanager
def containerd(version: str, bear: Callable[[Containerd, str], object]) -> Iterator[Runtime]:
    if reason := containerds.why_not():
        pytest.skip(f"this machine: {reason}")
    with Containerd(ContainerdOptions(version)) as engine:
        engine.on_host("sh", "-ec", f"mkdir -p /etc/containerd; ln -sf {engine.root}/config.toml {CONFIG}")
        engine.pods  # noqa: B018 - brings the images
        yield Runtime(engine, lambda name: bear(engine, name), ("--containerd",), engine.restart)


def by_ctr(engine: Containerd, name: str) -> None:
    """Started by containerd's own client, on a CNI network."""
    try:
        engine.run(name)
    except EngineError:
        with contextlib.suppress(EngineError):
            engine.remove(name)
        raise


def a_pod(engine: Containerd, name: str) -> None:
    engine.pods.run(name)


def a_pods_container(engine: Containerd, name: str) -> None:
    """A pod and a container in it; the pod alone runs nothing."""
    pod = engine.pods.run(name)
    engine.pods.start(engine.pods.create(pod, "main", IMAGE, FOREVER))


DEBIAN, CURRENT = containerds.VERSIONS
CASES = {
    "podman, by a hook": ("podman", lambda: podman(HOOKS)),
    "CRI-O's hook, read by podman": ("cri-o", lambda: podman(CRIO_HOOKS)),
    "containerd 1.6, by a hook": ("containerd", lambda: containerd(DEBIAN, a_pods_container)),
    "containerd 1.6, by CNI": ("cni", lambda: containerd(DEBIAN, by_ctr)),
    "containerd 2, by a hook": ("containerd", lambda: containerd(CURRENT, a_pods_container)),
    "containerd 2, by CNI": ("cni", lambda: containerd(CURRENT, a_pod)),
    "containerd 2, by NRI": ("nri", lambda: containerd(CURRENT, a_pod)),
}


def install(on: Contained, target: str, heed: Callable[[], None]) -> None:
    done = on.cli("gate", "install", target, "--yes")
    assert done.returncode in {0, 2}, done.stderr
    heed()
    shown = on.cli("gate", "status")
    assert shown.returncode == 0, shown.stdout


def written(engine: EngineHost) -> str:
    """Return the files of configuration that are newer than the host."""
    return engine.on_host("find", "/etc", "/usr/share", "-type", "f", "-newer", "/etc/hostname")


def refused(bear: Callable[[str], object], name: str) -> str:
    with pytest.raises(EngineError) as told:
        bear(name)
    return " ".join(str(told.value).split())


@contextlib.contextmanager
def standing_still(on: Contained) -> Iterator[None]:
    assert on.process is not None
    os.kill(on.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(on.process.pid, signal.SIGCONT)


def kill(on: Contained) -> None:
    assert on.process is not None
    on.process.kill()
    on.process.wait(10)


@pytest.mark.parametrize(("target", "runtime"), CASES.values(), ids=CASES)
def test_what_could_not_be_contained_is_not_started(target, runtime, tmp_path):
    async def story(it: Runtime) -> None:
        async with contained(it.engine, tmp_path, "--no-docker", *it.flags) as on:
            await on.until(on.in_force)
            before = await asyncio.to_thread(written, it.engine)
            await asyncio.to_thread(install, on, target, it.heed)
            with standing_still(on):
                await asyncio.to_thread(it.bear, "passed-1")
            await on.apply(HOLD)
            await asyncio.to_thread(it.bear, "agreed")
            with standing_still(on):
                told = await asyncio.to_thread(refused, it.bear, "waited")
                assert "stockade: not started: the agent did not answer in time" in told
            kill(on)
            told = await asyncio.to_thread(refused, it.bear, "alone")
            assert "stockade: not started: the agent does not run" in told
            assert "births: hold, 0.yaml:5" in told
            on.start("--no-docker", *it.flags)
            await on.answering()
            await on.until(on.in_force)
            await asyncio.to_thread(it.bear, "again")
            done = await asyncio.to_thread(on.cli, "gate", "remove", target, "--yes")
            assert done.returncode in {0, 2}, done.stderr
            it.heed()
            kill(on)
            await asyncio.to_thread(it.bear, "without")
            assert before == await asyncio.to_thread(written, it.engine)
            on.start("--no-docker", *it.flags)
            await on.answering()

    with runtime() as it:
        asyncio.run(story(it))
