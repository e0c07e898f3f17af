"""Machines that a running systemd-machined has registered, on a Debian machine whose first process is systemd."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from debian import Machine, disk

from stockade.core.model.inventory import WorkloadKind, WorkloadState
from stockade.testing.busybox import root_folder
from stockade.testing.lab import Lab, Topology, enter
from stockade.wire.api import WorkloadDetail, WorkloadsReply, WorkloadView

pytestmark = [pytest.mark.real, pytest.mark.fault, pytest.mark.timeout(900)]
HOST = "spawns"
ADDRESSES = {"web": "10.77.0.2", "db": "10.77.0.3"}
ALLOWED, DENIED = 8000, 7000
POLICY = f"""
apiVersion: stockade.dev/v1
kind: LabelRule
metadata: {{name: machines}}
spec:
  where: {{runtime: machine}}
  set: {{app: pair, role: "{{name}}", unit: "{{label:unit}}"}}
---
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {{name: pair}}
spec: {{select: app = pair, mode: full, priority: 10}}
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {{name: pair}}
spec:
  scope: app = pair
  rules:
    - name: web-to-db
      allow: {{from: role = web, to: role = db and unit = machine-db.scope, on: [tcp/{ALLOWED}]}}
"""
OTHER = (
    "ip netns add other",
    "ip link add vother type veth peer name eth0 netns other",
    "ip link set vother master mbr0 up",
    "ip -n other link set eth0 up",
    "ip -n other address add 10.77.0.4/24 dev eth0",
    "systemd-run --collect --unit=other.service ip netns exec other sleep 600",
)
"""A container that nobody called systemd-nspawn runs."""
MACHINED = "org.freedesktop.machine1"
INSIDE = f"""
ip address add $0/24 dev host0
ip link set host0 up
nc -ll -p {DENIED} -e /bin/cat &
exec nc -ll -p {ALLOWED} -e /bin/cat
"""


@contextlib.asynccontextmanager
async def booted(folder: Path, package: Path) -> AsyncIterator[Machine]:
    """A machine with a bridge, a root for each of its machines, and Stockade installed."""
    shown = folder / "lab"
    shown.mkdir()
    with disk(folder / "disk") as kept:
        async with Lab(Topology()) as lab:
            machine = Machine(lab, kept, shown)
            await machine.boot()
            try:
                await machine.done("ip", "link", "add", "mbr0", "type", "bridge")
                await machine.done("ip", "address", "add", "10.77.0.1/24", "dev", "mbr0")
                await machine.done("ip", "link", "set", "mbr0", "up")
                for name in ADDRESSES:
                    root_folder(machine.path(f"/var/lib/machines/{name}"), "sh", "ip", "nc", "cat")
                machine.serve("--no-docker", "--host", HOST)
                await machine.install(package)
                yield machine
            finally:
                await machine.reset()


async def begin(machine: Machine, name: str) -> None:
    """Have a machine begun and registered."""
    words = ["systemd-nspawn", "--quiet", "--as-pid2", f"--machine={name}", "--network-bridge=mbr0"]
    inside = ["/bin/sh", "-c", INSIDE, ADDRESSES[name]]
    await machine.done("systemd-run", "--collect", *words, f"--directory=/var/lib/machines/{name}", *inside)
    while (await machine.run("machinectl", "show", name, "--value", "-p", "State")).stdout != "running\n":
        await asyncio.sleep(0.1)


async def known(machine: Machine) -> dict[str, WorkloadView]:
    told = msgspec.json.decode(await machine.done("stockade", "workloads", "-o", "json"), type=WorkloadsReply)
    assert len({each.id for each in told.workloads}) == len(told.workloads)
    return {each.name: each for each in told.workloads if each.kind is not WorkloadKind.HOST}


async def until(machine: Machine, names: set[str]) -> dict[str, WorkloadView]:
    """Wait until these machines are known with an address and run, and nobody else does."""
    async with asyncio.timeout(60):
        while True:
            running = {
                name: each
                for name, each in (await known(machine)).items()
                if each.state is WorkloadState.RUNNING and each.addresses
            }
            if running.keys() == names:
                return running
            await asyncio.sleep(0.2)


async def reached(machine: Machine, port: int) -> bool:
    """Whether the web's machine connects to the database's."""
    leader = (await machine.done("machinectl", "show", "web", "--value", "-p", "Leader")).strip()
    talk = ["timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/$0/$1", ADDRESSES["db"], str(port)]
    return (await machine.run("nsenter", "-t", leader, "-n", *talk)).returncode == 0


def test_what_machined_has_registered_is_known_contained_and_forgotten(
    packages: tuple[Path, Path], tmp_path: Path
) -> None:
    enter()

    async def run() -> None:
        async with booted(tmp_path, packages[0]) as machine:
            for name in ADDRESSES:
                await begin(machine, name)
            listed = await machine.done("machinectl", "list", "--no-legend")
            assert {line.split()[0] for line in listed.splitlines()} == set(ADDRESSES)
            found = await until(machine, set(ADDRESSES))
            assert {each.id for each in found.values()} == {f"machine:{HOST}:{name}" for name in ADDRESSES}
            await described(machine)
            await told_by_machined_alone(machine)
            assert [await reached(machine, port) for port in (ALLOWED, DENIED)] == [True, True]
            machine.path("/root/pair.yaml").write_text(POLICY, encoding="utf-8")
            await machine.done("stockade", "apply", "--yes", "/root/pair.yaml")
            assert [await reached(machine, port) for port in (ALLOWED, DENIED)] == [True, False]
            await machine.done("systemctl", "restart", "systemd-machined.service")
            again = await until(machine, {*ADDRESSES, "other"})
            assert {name: again[name].id for name in found} == {name: each.id for name, each in found.items()}
            assert [await reached(machine, port) for port in (ALLOWED, DENIED)] == [True, False]
            await machine.done("machinectl", "terminate", "db")
            await until(machine, {"web", "other"})
            await begin(machine, "db")
            await until(machine, {*ADDRESSES, "other"})
            assert [await reached(machine, port) for port in (ALLOWED, DENIED)] == [True, False]

    asyncio.run(run())


async def described(machine: Machine) -> None:
    told = await detail(machine, "web")
    assert {"machines", "namespaces"} <= set(told.sources)
    facts = {"unit": "machine-web.scope", "service": "systemd-nspawn", "root": "/var/lib/machines/web"}
    assert facts.items() <= dict(told.facts).items()


async def told_by_machined_alone(machine: Machine) -> None:
    """What another program runs and registers is known by the name under which it did."""
    for words in OTHER:
        await machine.done(*words.split())
    leader = (await machine.done("systemctl", "show", "other.service", "--value", "-p", "MainPID")).strip()
    call = [MACHINED, f"/{MACHINED.replace('.', '/')}", f"{MACHINED}.Manager", "RegisterMachine", "sayssus"]
    await machine.done("busctl", "call", *call, "other", "0", "another-manager", "container", leader, "/srv/other")
    found = await until(machine, {*ADDRESSES, "other"})
    assert found["other"].id == f"machine:{HOST}:other"
    told = await detail(machine, "other")
    assert {"unit": "other.service", "service": "another-manager"}.items() <= dict(told.facts).items()


async def detail(machine: Machine, name: str) -> WorkloadDetail:
    return msgspec.json.decode(await machine.done("stockade", "workloads", name, "-o", "json"), type=WorkloadDetail)
