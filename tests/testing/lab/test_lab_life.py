"""Nodes are born, move and die while the lab runs; commands run in them; nothing of any of it is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from stockade.core.model.net import Protocol
from stockade.testing.lab import Lab, LabError, Link, Node, Topology, bridged, entry, lab_bridge, outside, routed
from stockade.testing.lab.traces import MARK, marked, still_alive, traces
from stockade.testing.probe.values import Probe

BRIDGES = (
    lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),
    lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64"),
)
SMALL = Topology(BRIDGES, (bridged("web", "br0"), bridged("api", "br0"), bridged("db", "br1")))
NO_ROOT = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
"""Root without a right to anything but a user namespace: what anybody else is."""


def in_lab(scenario, topology=SMALL):
    async def main():
        async with Lab(topology) as lab:
            return await scenario(lab)

    return asyncio.run(main())


async def reached(lab, source, destination, family=4):
    (result,) = await lab.probe([Probe(source, destination, Protocol.TCP, 9000, family)])
    return result.reached


# Births, moves, deaths


@pytest.mark.real
def test_nodes_are_born_and_die_while_the_lab_runs():
    async def scenario(lab):
        await lab.add(bridged("late", "br0"), routed("vm", "10.9.0.5", "fd00:9::5"), outside("net", "203.0.113.10"))
        late = lab.sighting("late").endpoints[0]
        assert await reached(lab, "late", "db", 6)
        assert await reached(lab, "net", "vm")
        pid, port = lab.pid("late"), late.port
        inode = Path(lab.netns("late")).stat().st_ino
        await lab.remove("late", "vm")
        links = (await lab.run("lab", ["ip", "-br", "link"])).stdout
        assert port not in links
        assert "up" in links
        assert still_alive([inode]) == set()
        assert not Path(f"/proc/{pid}/ns/net").exists()
        await lab.add(bridged("newcomer", "br0"))
        assert lab.sighting("newcomer").endpoints[0].addresses == late.addresses  # another owner
        assert await reached(lab, "web", "newcomer")
        with pytest.raises(LabError, match="there is no node late"):
            lab.sighting("late")

    in_lab(scenario)


@pytest.mark.real
def test_a_node_that_cannot_be_plugged_in_leaves_the_lab_as_it_was():
    async def scenario(lab):
        with pytest.raises(LabError, match="lies in no subnet"):
            await lab.add(bridged("odd", "br0", "10.9.9.9"))
        with pytest.raises(LabError, match="refused link message"):
            await lab.add(Node("odd", (Link("br0", mac="01:00:00:00:00:01"),)))  # a multicast MAC
        assert lab.names == ("lab", "web", "api", "db")
        await lab.add(bridged("odd", "br0"))
        assert await reached(lab, "odd", "db")

    in_lab(scenario)


@pytest.mark.real
def test_links_move_to_other_bridges_addresses_and_macs():
    async def scenario(lab):
        await lab.add(routed("vm", "10.9.0.5", "fd00:9::5"))
        await lab.move("web", Link("br1"))
        await lab.move("api", Link("br0", ("10.1.0.99",), mac="02:aa:bb:cc:dd:ee"))
        await lab.move("vm", Link("", ("10.9.0.6", "fd00:9::5")))
        assert lab.address("web") == "10.2.0.11"
        assert lab.sighting("web").endpoints[0].bridge == "br1"
        for source, destination, family in (("web", "db", 6), ("api", "web", 4), ("db", "vm", 4), ("web", "vm", 6)):
            assert await reached(lab, source, destination, family)
        seen = await lab.run("api", ["ip", "-br", "link", "show", "eth0"])
        assert "02:aa:bb:cc:dd:ee" in seen.stdout
        with pytest.raises(LabError, match="a link on a bridge stays on one"):
            await lab.move("web", Link("", ("10.9.9.9",)))

    in_lab(scenario)


@pytest.mark.real
def test_addresses_wait_for_duplicate_address_detection_where_the_lab_says_so():
    async def scenario(lab):
        return (await lab.run("web", ["ip", "-6", "address", "show", "dev", "eth0", "tentative"])).stdout

    assert "fd00:1::a" in in_lab(scenario, Topology(SMALL.bridges, SMALL.nodes, dad=True))
    assert "fd00:1::a" not in in_lab(scenario)


# Commands


@pytest.mark.real
def test_commands_run_in_their_node():
    async def scenario(lab):
        done = await lab.run(
            "web", ["sh", "-c", "cat; ip -br -4 address show eth0; exit 3"], input=b"hello\n" * 100_000
        )
        assert done.status == 3
        assert done.stdout.startswith("hello\n" * 100_000)
        assert lab.address("web") in done.stdout
        assert (await lab.run("web", ["sh", "-c", "echo complaint >&2"])).stderr == "complaint\n"
        assert (await lab.run("web", ["pwd"], cwd="/tmp")).stdout == "/tmp\n"
        assert (await lab.run("web", ["env"], env={"ONLY": "this"})).stdout == "ONLY=this\n"
        with pytest.raises(LabError, match="no-such-program: No such file"):
            await lab.run("web", ["no-such-program"])
        with pytest.raises(TimeoutError):
            await lab.run("web", ["sleep", "1000"], timeout=0.1)
        with pytest.raises(LabError, match="nft: "):
            await lab.nft("complete nonsense")

    in_lab(scenario)


@pytest.mark.real
def test_a_started_command_is_known_by_its_pid_and_can_be_killed():
    async def scenario(lab):
        command = await lab.start("web", ["sleep", "1000"])
        assert Path(f"/proc/{command.pid}/comm").read_text() == "sleep\n"
        assert Path(f"/proc/{command.pid}/ns/net").readlink() == Path(lab.netns("web")).readlink()
        assert command.status is None
        command.kill()
        assert await command.wait(10) == -signal.SIGKILL
        ended = await lab.start("web", ["sh", "-c", "kill -TERM $$"])
        assert await ended.wait(10) == -signal.SIGTERM

    in_lab(scenario)


@pytest.mark.real
def test_commands_see_the_lab_s_processes_and_their_own():
    async def scenario(lab):
        done = await lab.run("web", [sys.executable, "-c", "import os; print(os.readlink(f'/proc/{os.getpid()}/exe'))"])
        assert done.stdout.strip() == os.path.realpath(sys.executable)

    in_lab(scenario)


@pytest.mark.real
def test_removing_a_node_ends_what_runs_in_it_and_nothing_else():
    async def scenario(lab):
        daemon = ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & sleep 1000"]
        gone, stays = await lab.start("web", daemon), await lab.start("api", daemon)
        inode = Path(lab.netns("web")).stat().st_ino
        await lab.remove("web")
        assert await gone.wait(10) == -signal.SIGKILL
        assert still_alive([inode]) == set()
        assert stays.status is None

    in_lab(scenario)


# Nothing is left behind

SCRIPT = """
import asyncio, os, sys, time
from stockade.testing.lab import Lab, Topology, bridged, enter, lab_bridge
from stockade.testing.probe.values import Probe
from stockade.core.model.net import Protocol

enter()
DEAF = "setsid sh -c 'trap : HUP INT TERM; sleep 1000' >/dev/null 2>&1 &"
DAEMON = "setsid env -i sleep 1000 >/dev/null 2>&1 &" + DEAF

async def main(end):
    nodes = (bridged("web", "br0"), bridged("api", "br0"))
    async with Lab(Topology((lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),), nodes)) as lab:
        assert (await lab.probe([Probe("web", "api", Protocol.TCP, 9000)]))[0].reached
        await lab.nft("table inet test { }")
        await lab.run("api", ["sh", "-c", DAEMON])
        await lab.start("lab", ["sleep", "1000"])
        namespaces = [os.stat(lab.netns(name)).st_ino for name in lab.names]
        if end == "fork":  # a child of the owner that keeps everything of its parent's open
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            end = "wait"
        print(*namespaces, flush=True)
        if end == "error":
            raise RuntimeError("in the middle")
        if end == "exit":
            os._exit(7)
        if end == "wait":
            await asyncio.sleep(60)

asyncio.run(main(sys.argv[1]))
"""

DEAF_TO_NOTHING = ("env", "--default-signal")
"""Whoever runs the tests under nohup has its children ignore what they are to be ended by."""


def leftovers(end, number=None, prefix=()):
    """Run a lab in a process of its own, end it in some way, and return what is still there some seconds later."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        before = traces(mark, [Path(folder)])
        owner = subprocess.Popen(
            [*DEAF_TO_NOTHING, *prefix, sys.executable, "-c", SCRIPT, end],
            env={**os.environ, MARK: mark, "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = owner.stdout.readline()
        namespaces = [int(word) for word in said.split()]
        assert len(namespaces) == 3, owner.stderr.read()
        if number is not None:
            # While it waits, everything is there: what is looked for below can be found.
            assert still_alive(namespaces) == set(namespaces)
            assert len(marked(mark)) >= 5
            owner.send_signal(number)
        owner.wait(30)
        owner.stdout.close()
        owner.stderr.close()
        return _after(before, mark, namespaces, Path(folder))


def _after(before, mark, namespaces, folder):
    """What is left; the kernel may take a moment to bury the dead."""
    for _ in range(500):
        left = traces(mark, [folder]).new_since(before) + sorted(map(str, still_alive(namespaces)))
        if not left:
            return []
        time.sleep(0.01)
    return left


@pytest.mark.real
@pytest.mark.parametrize("prefix", [(), NO_ROOT], ids=["as-it-is", "without-root"])
@pytest.mark.parametrize("end", ["return", "error", "exit"])
def test_nothing_is_left_when_the_owner_ends_by_itself(end, prefix):
    assert leftovers(end, prefix=prefix) == []


@pytest.mark.real
@pytest.mark.parametrize("prefix", [(), NO_ROOT], ids=["as-it-is", "without-root"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_the_owner_is_ended(number, prefix):
    assert leftovers("wait", number, prefix) == []


@pytest.mark.real
def test_a_child_that_keeps_the_owner_s_descriptors_keeps_no_lab_alive():
    mark = uuid.uuid4().hex
    owner = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "fork"],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    namespaces = [int(word) for word in owner.stdout.readline().split()]
    owner.kill()
    owner.wait(30)
    alive = still_alive(namespaces), marked(mark)
    for _ in range(200):
        alive = still_alive(namespaces), marked(mark)
        if not alive[0] and len(alive[1]) == 1:
            break
        time.sleep(0.01)
    assert alive[0] == set()
    ((child, _),) = alive[1]  # which had time to end by itself, and has not
    os.kill(child, signal.SIGKILL)
    owner.stdout.close()
    owner.stderr.close()


@pytest.mark.real
def test_a_lab_that_fails_to_be_built_leaves_nothing():
    async def main():
        before = {pid for pid, _ in marked(mark)}
        with pytest.raises(LabError, match="refused link message"):
            async with Lab(Topology(BRIDGES, (Node("odd", (Link("br0", mac="01:00:00:00:00:01"),)),))):
                pass
        return {pid for pid, _ in marked(mark)} - before

    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        assert asyncio.run(main()) == set()
    finally:
        del os.environ[MARK]


# Without root


@pytest.mark.real
def test_without_root_a_process_is_started_again_with_its_arguments():
    script = "import sys; from stockade.testing.lab import able, enter; print(able()); enter(); print(able(), sys.argv)"
    done = subprocess.run(
        [*NO_ROOT, sys.executable, "-c", script, "a", "b c"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["False", "True", "True ['-c', 'a', 'b c']"]


@pytest.mark.real
@pytest.mark.parametrize("prefix", [(), NO_ROOT], ids=["as-it-is", "without-root"])
def test_another_terminal_can_run_commands_in_a_node(prefix):
    script = SCRIPT.replace("print(*namespaces", "print(*lab.inside('api', stranger=True)")
    owner = subprocess.Popen([*prefix, sys.executable, "-c", script, "wait"], stdout=subprocess.PIPE, text=True)
    try:
        words = owner.stdout.readline().split()
        seen = subprocess.run([*words, "ip", "-br", "-4", "address"], capture_output=True, text=True, check=True)
        assert "10.1.0.11/24" in seen.stdout
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


@pytest.mark.real
def test_a_kernel_that_forbids_namespaces_is_told_apart():
    script = (
        "from stockade.testing.lab import enter\ntry:\n  enter()\nexcept Exception as e:\n  print(e, '|', e.remedy)"
    )
    nothing = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # not even a user namespace
    done = subprocess.run([*nothing, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "no lab can be built: this kernel forbids user namespaces" in done.stdout
    assert "run as root" in done.stdout


def test_the_settings_that_stand_in_the_way_are_named(tmp_path):
    for path, (forbidding, _) in entry.SWITCHES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"{forbidding}\n")
    said = entry.remedy(tmp_path)
    assert said == (
        "run as root, or once: sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 "
        "kernel.apparmor_restrict_unprivileged_userns=0"
    )
    (tmp_path / "kernel/unprivileged_userns_clone").write_text("1\n")
    assert "userns_clone" not in entry.remedy(tmp_path)
    assert "seccomp" in entry.remedy(tmp_path / "nothing")
