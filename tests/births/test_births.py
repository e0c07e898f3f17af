"""Births on every runtime's host as the benchmark has them, a few of each: nothing leaks, and it would have shown."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench.engine_births import engine_births
from bench.figures import Figure
from bench.newborns import compiled
from bench.nurseries import nurseries

from stockade.testing.lab.entry import entered
from stockade.testing.podman import why_not as why_no_podman

pytestmark = [pytest.mark.timeout(600)]

BORN, AT_ONCE, STARVED = 3, 4, 1
DOCKER = ("docker", "docker-gate")
OTHERS = (
    "podman-gate",
    "containerd-1.6-hook",
    "containerd-1.6-cni",
    "containerd-1.6-base-spec",
    "containerd-2.4-hook",
    "containerd-2.4-cni",
    "containerd-2.4-base-spec",
    "containerd-2.4-nri",
    "namespaces",
)
KINDS = [
    *(pytest.param(each, marks=pytest.mark.docker) for each in DOCKER),
    *(pytest.param(each, marks=pytest.mark.real) for each in OTHERS),
]
LEAKS = ("denied packets passed", "denied packets that reached them")
CONTROLS = ("without policy: packets passed", "without policy: packets that reached it")


def why_not(kind: str) -> str:
    """Say why workloads of a kind cannot be born here; empty where they can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [each for each in ("cc", "ip", "busybox", "taskset") if shutil.which(each, path=path) is None]:
        return f"{', '.join(missing)} not installed (make setup)"
    if kind.startswith("podman"):
        return why_no_podman()
    if kind.startswith("containerd") and shutil.which("containerd", path=path) is None:
        return "containerd not installed (make setup)"
    # A user namespace shows root, and mounts and cgroups are refused all the same.
    return "" if os.geteuid() == 0 and not entered() else "a host for a runtime needs root outside a user namespace"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return compiled(tmp_path_factory.mktemp("newborn"))


async def measured(kind: str, program: Path) -> list[Figure]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * AT_ONCE + 8))
    return [each async for each in engine_births(nurseries(program)[kind](), BORN, AT_ONCE, STARVED)]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaks_and_it_would_have_shown(kind, program):
    if reason := why_not(kind):
        pytest.skip(f"this machine: {reason}")
    figures = asyncio.run(measured(kind, program))
    leaks = [each for each in figures if each.name.endswith(LEAKS)]
    controls = [each for each in figures if each.name.endswith(CONTROLS)]
    assert len(leaks) == 4 * len(LEAKS), "one by one, several alive, at once, and starved"
    assert [each for each in leaks if each.value] == []
    assert len(controls) == len(CONTROLS)
    assert [each for each in controls if not each.value] == []
    if kind.startswith(("docker-gate", "podman-gate", "containerd")) and not kind.endswith("nri"):
        (runs,) = [each for each in figures if "exec to exit, p99" in each.name]
        assert runs.value > 0, "the gate was asked"


def test_every_kind_is_tried(program):
    assert {*DOCKER, *OTHERS} == set(nurseries(program))
