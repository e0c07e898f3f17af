"""The Debian package on a machine with systemd: installed, upgraded, reset, broken, removed, purged, under traffic.

Traffic between the lab's nodes, whose host the machine is, begins before Stockade is there and ends after it is gone.
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from debian import Machine, disk

from faults import DENIED, GROUND, HELD, apply, judging, lost, owned, passed, there, told
from stockade import __version__
from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.cli.client import Client
from stockade.cli.demo_stage import Stage
from stockade.cli.exits import Exit
from stockade.core.model.net import Protocol
from stockade.testing.lab import Lab, bridged, enter
from stockade.testing.lab.telling import telling
from stockade.testing.steady import Count, Kind, Steady

pytestmark = [pytest.mark.real, pytest.mark.fault, pytest.mark.timeout(900)]
GOES_ON_WITHIN = 20.0
"""Seconds in which every flow has done something, on a machine that is busy."""
READ_LATE = 0.3
"""Seconds by which a server on a busy machine may read late what has arrived: it tells of moments when it reads."""
NEWBORN = bridged("newborn", "shop", app="shop", env="prod", role="web")
TALK = "exec 3<>/dev/tcp/$0/$1"
UNITS = ("stockade.service", "stockade-restore.service")
OTHERS = (
    "/var/cache/",
    "/var/log/",
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/lib/systemd/",
    "/etc/systemd/system.control/",
)
"""What others write while packages come and go."""


class Site:
    """The lab, the machine that is its host, and what is told and asked there."""

    def __init__(self, on: Stage, machine: Machine, steady: Steady, shown: Path) -> None:
        self.on, self.machine, self.steady, self._shown = on, machine, steady, shown

    async def install(self, package: Path) -> None:
        """Have apt install a package from a file, as a user does."""
        await self.machine.install(package)
        self.lead()

    def lead(self) -> None:
        """Lead the client to the server that the machine runs now."""
        self.on.client = Client(self.machine.path("/var/lib/stockade/api.sock"))

    async def boot(self) -> None:
        await self.machine.boot()
        self.lead()

    async def main_pid(self, unit: str = "stockade.service") -> int:
        return int(await self.machine.done("systemctl", "show", unit, "--value", "-p", "MainPID"))

    async def helper(self) -> int:
        """Return the process of the nft helper, by the machine's own count."""
        return int(await self.machine.done("pgrep", "-o", "-f", "nfthelper/__main__.py"))

    async def moment(self, unit: str, stamp: str) -> float:
        """Return when something happened to a unit, in seconds of the monotonic clock."""
        return int(await self.machine.done("systemctl", "show", unit, "--value", "-p", stamp)) / 1e6

    async def holds(self, pause: float = 0.5) -> None:
        """Nothing denied has arrived since traffic was last looked at, nothing that is allowed was cut, all goes on."""
        deadline, moved = time.monotonic() + GOES_ON_WITHIN, set()
        while True:
            await asyncio.sleep(pause)
            counts = await self.steady.told()
            assert not passed(counts)
            assert not lost(counts), self.tracked()
            moved |= {each.flow for each in counts if each.done}
            if moved >= {each.flow for each in counts}:
                return
            assert time.monotonic() < deadline, "a flow stands still"

    def tracked(self) -> list[str]:
        """Return what the host tracks of connections that are held."""
        with closing(Conntrack(self.on.lab.netns(self.on.lab.host_name))) as tracking:
            found = [each for each in tracking.connections() if each.protocol == Protocol.TCP]
        ports = {flow.port for flow in HELD if flow.kind is Kind.HOLD}
        return [repr(each) for each in found if ports & {each.source_port, each.destination_port}]

    async def open(self) -> None:
        """Everything passes, what policy would deny as well."""
        await self.steady.told()
        await asyncio.sleep(0.5)
        counts = await self.steady.told()
        assert len(passed(counts)) == len(DENIED)
        assert not lost(counts)

    async def until(self, happens: Callable[[], object], within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while not await asyncio.to_thread(happens):
            assert time.monotonic() < deadline, "it did not happen"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """A machine that has booted, told of the lab's workloads by an administrator's drop-in; nothing is installed."""
    shown = folder / "lab"
    shown.mkdir()
    with disk(folder / "disk") as kept:
        async with Lab(GROUND) as lab, telling(shown / "lab.sock") as teller:
            machine = Machine(lab, kept, shown)
            await machine.boot()
            try:
                on = Stage(lab, teller, Client(folder / "none"), shown)
                machine.serve(*words(lab))
                async with Steady(lab, (*HELD, *DENIED)) as steady:
                    yield Site(on, machine, steady, shown)
            finally:
                await machine.reset()


def words(lab: Lab) -> list[str]:
    uplinks = [plug.port for node in lab.topology.nodes if node.outside for plug in lab.plugs(node.name)]
    told_apart = [word for port in uplinks for word in ("--uplink", port)]
    return ["--lab", "/lab/lab.sock", "--no-docker", "--host", lab.host_name, *told_apart]


async def files(machine: Machine) -> set[str]:
    listed = await machine.done("find", "/", "-xdev", "(", "-type", "f", "-o", "-type", "l", "-o", "-type", "d", ")")
    return {each for each in listed.splitlines() if not f"{each}/".startswith(OTHERS)}


def told_of(package: Path, *words: str) -> bytes:
    return subprocess.run(["dpkg-deb", *words, package], capture_output=True, check=True).stdout


def test_two_builds_of_one_commit_give_the_same_files(packages: tuple[Path, Path]) -> None:
    one, two = (told_of(each, "--fsys-tarfile") for each in packages)
    assert one == two
    assert told_of(packages[1], "--field").decode().splitlines()[1] == "Version: " + packages[1].name.split("_")[1]


def test_installed_upgraded_removed_and_purged_under_traffic(packages: tuple[Path, Path], tmp_path: Path) -> None:
    enter()

    async def run() -> None:
        async with site(tmp_path) as here:
            machine, on = here.machine, here.on
            before = await files(machine)
            await installed(here, packages[0])
            await apply(on)
            await asyncio.sleep(0.3)
            await here.steady.told()
            await here.holds()
            await restarted(here)
            await upgraded(here, packages[1])
            await removed(here)
            await forbidden_to_start(here, packages[1])
            await on.settled(2, 0)  # what removal opened stays open, as version 2
            await here.open()
            await purged(here, before)

    asyncio.run(run())


async def installed(here: Site, package: Path) -> None:
    """It runs, and denies nothing."""
    machine = here.machine
    await here.install(package)
    assert (await machine.done("systemctl", "is-active", *UNITS)).split() == ["active", "active"]
    assert (await machine.done("systemctl", "is-enabled", *UNITS)).split() == ["enabled", "enabled"]
    assert (await machine.done("stockade", "version")).strip() == f"stockade {__version__}"
    doctor = await machine.run("stockade", "doctor")
    assert doctor.returncode in (Exit.DONE, Exit.LOOK, Exit.NOT_ASSESSED), doctor
    assert "problem" not in doctor.stdout, doctor.stdout
    paths = [f"/usr/lib/systemd/system/{unit}" for unit in UNITS]
    verified = await machine.run("systemd-analyze", "verify", *paths)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    await told(here.on)
    await here.open()


async def restarted(here: Site) -> None:
    """The helper that holds the tables outlives a restart and a kill of the service; so does what is enforced."""
    machine, on = here.machine, here.on
    helper = await here.helper()
    await machine.done("systemctl", "restart", "stockade.service")
    await on.settled(1, 0)
    await here.holds()
    killed = await here.main_pid()
    await machine.done("kill", "-9", str(killed))
    while await here.main_pid() in (0, killed):
        await asyncio.sleep(0.05)
    await machine.done("systemctl", "start", "stockade.service")  # returns once it is ready
    await on.settled(1, 0)
    await here.holds()
    await machine.done("systemctl", "stop", "stockade.service")
    assert await owned(on.lab), "the tables are held while the service is stopped"
    await here.holds()
    await machine.done("systemctl", "start", "stockade.service")
    assert await here.helper() == helper


async def upgraded(here: Site, package: Path) -> None:
    """Another process serves, the tables are the same, and a newborn is admitted by it."""
    machine, on = here.machine, here.on
    ran, helper = await here.main_pid(), await here.helper()
    await here.install(package)
    assert package.name.split("_")[1] == (await machine.done("dpkg-query", "-W", "-f", "${Version}", "stockade"))
    assert await here.main_pid() not in (0, ran)
    assert await here.helper() == helper
    await on.settled(1, 0)
    await here.holds()
    await on.add(NEWBORN)
    await on.settled(1, len(on.names))
    connects = ["bash", "-c", TALK, on.lab.address("api-1"), "8080"]
    assert (await on.lab.run("newborn", connects)).status == 0


async def forbidden_to_start(here: Site, package: Path) -> None:
    """An administrator's policy says that packages start nothing: it is obeyed, until the administrator starts it."""
    machine, policy = here.machine, here.machine.path("/usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    policy.chmod(0o755)
    await here.install(package)
    assert (await machine.run("systemctl", "is-active", *UNITS)).stdout.split() == ["inactive", "inactive"]
    policy.unlink()
    await machine.done("systemctl", "start", "stockade.service")


async def removed(here: Site) -> None:
    """The host is open, nobody of ours lives, the state is kept."""
    machine = here.machine
    await machine.done("apt-get", "remove", "-y", "stockade", within=300)
    assert not await there(here.on.lab)
    assert (await machine.run("pgrep", "-f", "stockade")).returncode == 1
    assert machine.path("/var/lib/stockade/stockade.db").exists()
    assert not machine.path("/usr/lib/stockade").exists()
    await here.open()


async def purged(here: Site, before: set[str]) -> None:
    """Nothing is left."""
    machine = here.machine
    await machine.done("apt-get", "purge", "-y", "stockade", within=300)
    await here.open()
    assert (await files(machine)) - before == set()
    assert before - (await files(machine)) == set()
    assert not (await machine.run("systemctl", "list-unit-files", "stockade*", "--no-legend")).stdout


def test_after_a_reset_what_was_in_force_is_in_force_before_the_network_is_up(
    packages: tuple[Path, Path], tmp_path: Path
) -> None:
    enter()

    async def run() -> None:
        async with site(tmp_path) as here:
            machine, on = here.machine, here.on
            await here.install(packages[0])
            await told(on)
            await apply(on)
            await machine.done("systemctl", "mask", "stockade.service")
            await reset_and_restored(here)
            await broken(here)
            await removed_though_broken(here)

    asyncio.run(run())


async def reset_and_restored(here: Site) -> None:
    """No `up` runs after the reset: what is judged is what was restored, and it was before network-pre.target."""
    machine, on = here.machine, here.on
    await machine.reset()
    assert not await there(on.lab)
    await here.open()
    counts, booting = [], asyncio.create_task(here.boot())
    while not booting.done():
        counts += await here.steady.told()
        await asyncio.sleep(0.05)
    await booting
    assert (await machine.done("systemctl", "show", "stockade.service", "--value", "-p", "ActiveState")) == "inactive\n"
    restored = await here.moment("stockade-restore.service", "ExecMainExitTimestampMonotonic")
    network = await here.moment("network-pre.target", "ActiveEnterTimestampMonotonic")
    assert restored <= network
    counts += await here.steady.told()
    late = [each for each in arrivals(counts) if each > network + READ_LATE]
    assert arrivals(counts), "before, everything passed"
    assert not late, (late, restored, network)
    assert not lost(tuple(counts))
    assert await judging(on.lab)
    assert await owned(on.lab)
    await here.holds(1.0)


def arrivals(counts: list[Count]) -> list[float]:
    return [moment for each in counts if each.flow.kind is Kind.TRY for moment in each.arrived]


async def broken(here: Site) -> None:
    """Nothing of Stockade runs any more, its program is gone: the machine boots, and who has a key may log in."""
    machine = here.machine
    await machine.done("systemctl", "unmask", "stockade.service")
    await machine.done("mv", "/usr/lib/stockade", "/usr/lib/gone")
    await machine.reset()
    await here.boot()
    assert (await machine.run("systemctl", "is-system-running")).stdout == "degraded\n"
    failed = await machine.done("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    assert {line.split()[0] for line in failed.splitlines()} <= set(UNITS)
    assert (await machine.done("systemctl", "is-active", "multi-user.target", "ssh.service")).split() == ["active"] * 2
    await logs_in(machine)
    await here.open()
    await machine.done("mv", "/usr/lib/gone", "/usr/lib/stockade")
    await machine.done("stockade", "restore")
    await here.steady.told()
    await here.holds()
    await logs_in(machine)


async def removed_though_broken(here: Site) -> None:
    """The package opens the host even where the program cannot: by nft, and without the helper that owns the tables."""
    machine = here.machine
    await machine.done("rm", "/usr/lib/stockade/bin/python")
    await machine.done("apt-get", "remove", "-y", "stockade", within=300)
    assert not await there(here.on.lab)
    assert (await machine.run("pgrep", "-f", "nfthelper")).returncode == 1
    assert not machine.path("/var/lib/stockade/assignment").exists()
    await here.open()


async def logs_in(machine: Machine) -> None:
    """A key opens a session over ssh."""
    if not machine.path("/root/.ssh/id").exists():
        await machine.done("mkdir", "-p", "-m", "700", "/root/.ssh")
        await machine.done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id")
        await machine.done("cp", "/root/.ssh/id.pub", "/root/.ssh/authorized_keys")
    options = ["-i", "/root/.ssh/id", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
    assert (await machine.done("ssh", *options, "root@127.0.0.1", "echo in")) == "in\n"
