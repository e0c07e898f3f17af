"""Machines of systemd: a real systemd-nspawn, and the files that machined keeps."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stockade.adapters.namespaces.machines import Machine, option, read
from stockade.core.model.inventory import Attachment, WorkloadKind
from stockade.seams.runtime import Seen
from stockade.testing.bare_host import bare_host, why_not
from stockade.testing.busybox import root_folder

REGISTERED = """# This is private data. Do not parse.
NAME=web
SCOPE=machine-web.scope
SERVICE=systemd-nspawn
ROOT=/var/lib/machines/web
ID=6ae3e8c7f2b34c3fbc6bb1d0f1a4b6c5
LEADER=4711
CLASS=container
REALTIME=1700000000000000
MONOTONIC=1000000
"""


def test_what_machined_keeps_of_a_container(tmp_path: Path) -> None:
    file = tmp_path / "web"
    file.write_text(REGISTERED, encoding="utf-8")
    assert read(file) == Machine("web", 4711, "/var/lib/machines/web", "systemd-nspawn", "machine-web.scope")


@pytest.mark.parametrize("text", ["", "CLASS=vm\nLEADER=4711\n", "CLASS=container\n", "CLASS=container\nLEADER=no\n"])
def test_what_is_no_container_or_not_all_there_is_left_out(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other"
    file.write_text(text, encoding="utf-8")
    assert read(file) is None
    assert read(tmp_path / "gone") is None


@pytest.mark.parametrize(
    "words",
    [
        ["systemd-nspawn", "-M", "web", "-D", "/r"],
        ["systemd-nspawn", "--machine=web", "sleep", "9"],
        ["systemd-nspawn", "-D/r", "-Mweb"],
        ["systemd-nspawn", "--machine", "web"],
        ["systemd-nspawn", "-bM", "web"],
    ],
)
def test_a_name_on_a_command_line(words: list[str]) -> None:
    assert option(words, "-M", "--machine") == "web"


def test_a_name_that_is_not_given() -> None:
    assert option(["systemd-nspawn", "-D", "/r", "--register=no"], "-M", "--machine") == ""


FOLLOW = """
import asyncio, sys
import msgspec
from stockade.adapters.namespaces import MachinesRuntime
from stockade.adapters.netlink import LinkPlaces
from stockade.controller.clock import SystemClock
from stockade.core.model.ids import HostId

async def follow():
    runtime = MachinesRuntime(HostId("h"), places=LinkPlaces(HostId("h")), clock=SystemClock())
    async for event in runtime.events():
        sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
        sys.stdout.flush()

asyncio.run(follow())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system of a busybox alone."""
    return root_folder(tmp_path / "root", "sh", "sleep")


@contextlib.contextmanager
def host() -> Iterator[list[str]]:
    """Yield the words that run a command on a host of its own: a network and a mount namespace, with one bridge."""
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("this machine: systemd-nspawn not installed (make setup)")
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")
    with bare_host() as bare:
        bare.run("mkdir -p /run/systemd; mount -t tmpfs none /run/systemd")
        yield bare.words


async def told(words: list[str], nspawn: list[str], until: object) -> Seen:
    """Follow the machines of a host while one is run; return what is told of it in the end."""
    follower = await asyncio.create_subprocess_exec(
        *words, sys.executable, "-c", FOLLOW, stdout=asyncio.subprocess.PIPE
    )
    machine = subprocess.Popen([*words, *nspawn], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        assert follower.stdout is not None
        async with asyncio.timeout(60):
            while True:
                line = await follower.stdout.readline()
                assert line, "the follower ended"
                decoded = msgspec.json.decode(line)
                events = decoded["seen"] if decoded["type"] == "listed" else [decoded]
                for each in (msgspec.convert(one, Seen) for one in events if "sighting" in one):
                    if until(each):  # type: ignore[operator]
                        return each
    finally:
        follower.kill()
        await follower.wait()
        machine.terminate()
        machine.wait()


@pytest.mark.real
@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["--network-veth", "--network-bridge=br0"])
def test_a_container_of_systemd_nspawn_with_a_network_of_its_own(root: Path, way: str) -> None:
    with host() as words:
        nspawn = [
            "systemd-nspawn",
            "--register=no",
            "--keep-unit",
            "-D",
            str(root),
            "-M",
            "mach",
            way,
            "/bin/sleep",
            "90",
        ]
        seen = asyncio.run(told(words, nspawn, lambda each: each.sighting.endpoints))
    sighting = seen.sighting
    assert (sighting.id, sighting.name, sighting.kind) == ("machine:h:mach", "mach", WorkloadKind.CONTAINER)
    assert ("root", str(root)) in sighting.facts.labels
    (endpoint,) = sighting.endpoints
    attachment = Attachment.ROUTED if way == "--network-veth" else Attachment.BRIDGED
    assert (endpoint.attachment, endpoint.port) == (attachment, "ve-mach" if way == "--network-veth" else "vb-mach")
    assert sighting.owner is None
    assert [mark.partition(":")[0] for mark in seen.marks] == ["netns"]


@pytest.mark.real
@pytest.mark.timeout(120)
def test_a_container_that_shares_the_hosts_network_is_the_hosts(root: Path) -> None:
    with host() as words:
        nspawn = ["systemd-nspawn", "--register=no", "--keep-unit", "--directory", str(root), "/bin/sleep", "90"]
        seen = asyncio.run(told(words, nspawn, lambda each: each.sighting.owner))
    assert (seen.sighting.name, seen.sighting.owner, seen.sighting.endpoints) == (root.name, "host:h", ())
    assert seen.marks == ()
