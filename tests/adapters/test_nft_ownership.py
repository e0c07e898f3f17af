"""Our tables are ours alone, outlive their holder, and are adopted with their content."""

import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nft_rooms import Room, alive, gone, kill, room

from stockade.adapters.nft import Helper
from stockade.adapters.nft.helper import PROGRAM
from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, ElementSet, Ruleset, Table
from stockade.core.reconcile import settled, steps, text
from stockade.seams.kernel import KernelRefused
from stockade.testing.processes import nft_helpers

pytestmark = pytest.mark.real
FORWARD = "type filter hook forward priority -5; policy accept;"


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Room]:
    with room(tmp_path) as made:
        yield made


def shop(program: str = "web_1") -> Ruleset:
    ways = ElementSet("ipv4_addr", data="verdict", elements=frozenset({f"10.0.0.1 : goto {program}"}))
    chains = {
        "forwarding": Chain(FORWARD, (rule("ip daddr vmap @ways"), rule("drop"))),
        program: Chain("", (rule("counter name refused drop"),)),
    }
    guards = {"guard": Chain("type filter hook prerouting priority -300; policy accept;", (rule("accept"),))}
    return Ruleset(
        (
            Table("inet", sets={"ways": ways}, counters=frozenset({"refused"}), chains=chains),
            Table("bridge", chains=guards),
        )
    )


def needs_ownership(space: Room) -> None:
    if not all(space.kernel.owned().values()):
        pytest.skip("this kernel has no persistent owned tables (before 6.9)")


def test_others_are_refused_and_a_flush_passes_by(space: Room) -> None:
    space.apply(shop())
    needs_ownership(space)
    assert space.kernel.owned() == {"inet": True, "bridge": True}
    for family, chain in (("inet", "forwarding"), ("bridge", "guard")):
        assert "not permitted" in space.nft("flush", "chain", family, "stockade", chain)
        assert "not permitted" in space.nft("delete", "table", family, "stockade")
    assert space.nft("flush", "ruleset") == ""
    assert settled(shop(), space.kernel.observe())


@pytest.mark.fault
def test_a_new_helper_adopts_what_a_killed_one_held(space: Room) -> None:
    space.apply(shop())
    needs_ownership(space)
    killed = space.kill_helper()
    assert space.kernel.owned() == {"inet": True, "bridge": True}
    assert space.helper_pid() != killed
    assert space.apply(shop()) == 0
    assert "not permitted" in space.nft("flush", "chain", "inet", "stockade", "forwarding")
    assert space.apply(shop("web_2")) == 2


@pytest.mark.fault
def test_a_deputy_goes_on_where_the_helper_is_killed_and_nobody_else_may_change_anything(space: Room) -> None:
    space.apply(shop())
    needs_ownership(space)
    pid = space.helper_pid()
    for number in range(3):
        deputy = space.deputy()
        kill(pid)
        assert space.nft("flush", "ruleset") == ""
        assert "not permitted" in space.nft("flush", "chain", "inet", "stockade", "forwarding")
        assert settled(shop(f"web_{number}" if number else "web_1"), space.kernel.observe())
        said = space.kernel.helper.ping()
        assert (said["pid"], said["owned"]) == (deputy, {"inet": True, "bridge": True})
        assert space.apply(shop(f"web_{number + 1}")) == (2 if number else 0)
        pid = deputy


@pytest.mark.fault
def test_where_helper_and_deputy_are_killed_at_once_the_spare_begins_another(space: Room) -> None:
    """Again and again: whoever it began knows it, and keeps it."""
    space.apply(shop())
    needs_ownership(space)
    space.deputy()
    spare = space.spare()
    for _ in range(3):
        space.deputy()
        killed = space.kill_helper()
        said = space.kernel.helper.ping()
        assert said["owned"] == {"inet": True, "bridge": True}
        assert said["pid"] != killed
        assert parent_of(said["pid"]) == spare == space.spare()
        assert settled(shop(), space.kernel.observe())
        assert "not permitted" in space.nft("flush", "chain", "inet", "stockade", "forwarding")


@pytest.mark.fault
def test_a_spare_that_is_killed_is_followed_by_another(space: Room) -> None:
    pid, spare = space.helper_pid(), space.spare()
    kill(spare)
    until = time.monotonic() + 10
    while space.spare() == spare:
        assert time.monotonic() < until
    assert space.helper_pid() == pid


@pytest.mark.fault
def test_where_all_three_are_killed_a_helper_begins_from_nothing(space: Room) -> None:
    space.apply(shop())
    needs_ownership(space)
    space.deputy()
    kill(space.spare())
    space.kill_helper()
    assert space.kernel.owned() == {"inet": True, "bridge": True}
    assert space.apply(shop()) == 0


@pytest.mark.fault
def test_a_spare_of_another_place_or_program_begins_nothing(space: Room) -> None:
    space.deputy()
    for question in (b"{}", b'{"source": 1, "namespace": 2}'):
        spare = space.spare()
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(space.socket) + ".spare")
            asked.settimeout(10)
            asked.sendall(question)
            assert asked.recv(5) == b""
        until = time.monotonic() + 10
        while alive(spare):
            assert time.monotonic() < until
        while space.spare() == spare:
            assert time.monotonic() < until


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.fault
@pytest.mark.parametrize("after", [0.0, 0.01, 0.05])
def test_a_deputy_finds_all_of_a_transaction_or_nothing(space: Room, after: float) -> None:
    space.apply(shop())
    before, deputy, pid = space.kernel.observe(), space.deputy(), space.helper_pid()
    chains = [f'add chain inet stockade x{n}\nadd rule inet stockade x{n} accept comment "x"\n' for n in range(2000)]
    timer = threading.Timer(after, kill, [pid])
    timer.start()
    try:
        space.kernel.commit("".join(chains))
    except OSError:
        pass
    finally:
        timer.join()
    found = space.kernel.observe()
    assert space.helper_pid() == deputy
    assert found == before or len(found.tables[0].chains) == len(before.tables[0].chains) + 2000


@pytest.mark.fault
def test_a_client_of_the_helper_that_was_killed_need_not_wait(space: Room) -> None:
    """Its connection ends at once: the deputy has no part in it."""
    space.apply(shop())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(space.socket))
        pid, _ = space.helper_pid(), space.deputy()
        kill(pid)
        assert client.recv(1) == b""


@pytest.mark.fault
def test_a_deputy_that_is_killed_is_followed_by_another(space: Room) -> None:
    pid, deputy = space.helper_pid(), space.deputy()
    kill(deputy)
    until = time.monotonic() + 10
    while space.deputy() == deputy:
        assert time.monotonic() < until
    assert space.helper_pid() == pid


@pytest.mark.fault
def test_a_helper_that_hangs_makes_way_for_its_deputy(space: Room) -> None:
    space.apply(shop())
    for _ in range(2):
        pid, deputy = space.helper_pid(), space.deputy()
        os.kill(pid, signal.SIGSTOP)
        space.kernel.helper.replace()
        assert gone(pid)
        assert space.helper_pid() == deputy


@pytest.mark.parametrize("how", ["released", "terminated"])
def test_a_deputy_ends_with_a_helper_that_ends_in_good_order(space: Room, tmp_path: Path, how: str) -> None:
    space.apply(shop())
    pid, deputy = space.helper_pid(), space.deputy()
    space.kernel.helper.release() if how == "released" else os.kill(pid, signal.SIGTERM)
    assert gone(pid)
    assert gone(deputy)
    assert list(tmp_path.iterdir()) == []
    assert settled(shop(), space.kernel.observe())


@pytest.mark.parametrize("moment", [0.49, 0.5, 0.501, 0.502, 0.505])
def test_who_is_told_to_end_while_it_appoints_a_deputy_leaves_nobody(
    space: Room, tmp_path: Path, moment: float
) -> None:
    pid = space.helper_pid()
    time.sleep(moment)
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 5
    while nft_helpers(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert nft_helpers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault
def test_killed_between_the_steps_and_flushed(space: Room) -> None:
    """An orphan can be flushed by root: then everything is made again, in two steps, by the next reconciliation."""
    space.apply(shop())
    make, switch = steps(shop("web_2"), space.kernel.observe())
    space.kernel.commit(text(make))
    space.kill_helper()
    assert settled_less_leftovers(space)
    assert space.nft("flush", "ruleset") == ""
    with pytest.raises(KernelRefused):
        space.kernel.commit(text(switch))
    assert space.kernel.observe() == Ruleset()
    assert space.apply(shop("web_2")) == 2
    assert settled(shop("web_2"), space.kernel.observe())


def settled_less_leftovers(space: Room) -> bool:
    """After the first step what was in force still is: only the new chain is too much."""
    listed = space.run("nft", "list", "table", "inet", "stockade").stdout
    return "10.0.0.1 : goto web_1" in listed and "chain web_2" in listed


@pytest.mark.fault
@pytest.mark.parametrize("after", [0.0, 0.002, 0.01, 0.03, 0.08])
def test_killed_in_the_middle_of_a_transaction(space: Room, after: float) -> None:
    """All of it is in force, or none; whoever asked is told that it is unknown."""
    space.apply(shop())
    pid = space.helper_pid()
    before = space.kernel.observe()
    batch = "".join(
        f'add chain inet stockade x{n}\nadd rule inet stockade x{n} accept comment "x"\n' for n in range(2000)
    )
    timer = threading.Timer(after, kill, [pid])
    timer.start()
    failed = False
    try:
        space.kernel.commit(batch)
    except OSError:
        failed = True
    timer.join()
    chains = len(space.kernel.observe().tables[0].chains)
    assert chains in (len(before.tables[0].chains), len(before.tables[0].chains) + 2000)
    assert failed or chains > 2000
    space.apply(shop())
    assert settled(shop(), space.kernel.observe())


def test_a_refused_batch_leaves_nothing_and_says_where(space: Room) -> None:
    with pytest.raises(KernelRefused) as refused:
        space.kernel.commit(
            "add table inet stockade\nadd chain inet stockade a\nadd rule inet stockade a goto nowhere\n"
        )
    assert str(refused.value).startswith("line 3: ")
    assert space.kernel.observe() == Ruleset()
    space.apply(shop())
    with pytest.raises(KernelRefused) as refused:
        space.kernel.commit("add element inet stockade ways { " + "10.1.1.1 : drop, " * 5000 + "!! }\n")
    assert len(str(refused.value)) < 1000
    assert settled(shop(), space.kernel.observe())


def test_a_table_that_another_owns_is_told_apart(space: Room) -> None:
    space.apply(shop())
    needs_ownership(space)
    other = space.another("other.sock")
    with pytest.raises(OSError, match="owned by another process"):
        other.observe()
    assert not alive_at(space.socket.with_name("other.sock"))
    assert settled(shop(), space.kernel.observe())


def alive_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def test_plain_tables_that_were_there_before_are_kept_as_they_are(space: Room) -> None:
    """An older layout made by plain nft: adopted without a gap, unowned, and others can still write."""
    space.nft("add table inet stockade { chain old { type filter hook input priority 0; }; }")
    assert space.kernel.owned() == {"inet": False}
    space.apply(shop())
    assert settled(shop(), space.kernel.observe())
    assert space.kernel.owned() == {"inet": False, "bridge": space.kernel.owned()["bridge"]}


def asleep(space: Room, family: str) -> bool:
    return "dormant" in space.run("nft", "list", "table", family, "stockade").stdout


def test_a_table_that_was_laid_to_sleep_is_woken_when_it_is_looked_at(space: Room) -> None:
    """A dormant table stands at no hook, and lists as before."""
    for family in ("inet", "bridge"):
        space.nft("add", "table", family, "stockade")
    space.apply(shop())
    for family in ("inet", "bridge"):
        assert space.nft(f"add table {family} stockade {{ flags dormant; }}") == ""
        assert asleep(space, family)
        assert settled(shop(), space.kernel.observe())
        assert not asleep(space, family)


def test_changes_by_others_are_noticed_and_ours_are_not(space: Room) -> None:
    space.nft("add table inet stockade")
    changes = space.kernel.ruleset_changes()
    try:
        space.apply(shop())
        space.nft("add table inet foreign")
        assert changes.read() == []
        space.nft("add rule inet stockade forwarding accept")
        (change,) = changes.read()
        assert (change.families, change.process, change.lost) == (("inet",), "nft", False)
        space.kill_helper()
        assert changes.read() == []
        space.apply(shop())
        assert changes.read() == []
    finally:
        changes.close()


@pytest.mark.fault
def test_a_new_helper_s_adoption_is_nobody_elses_change(space: Room) -> None:
    """It adopts before it answers anybody, so that its port is not known by asking it."""
    space.apply(shop())
    needs_ownership(space)
    changes = space.kernel.ruleset_changes()
    try:
        killed = space.kill_helper()
        assert "not permitted" not in space.nft("add rule inet stockade forwarding accept")
        assert space.run(sys.executable, "-I", str(PROGRAM), str(space.socket)).returncode == 0
        (change,) = changes.read()
        assert change.process == "nft"
        assert space.helper_pid() != killed
    finally:
        changes.close()


def test_lost_changes_are_told(space: Room) -> None:
    space.nft("add table inet stockade")
    changes = space.kernel.ruleset_changes()
    try:
        changes._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = "".join(f"add chain inet stockade x{n}\n" for n in range(3000))
        subprocess.run(
            ["nsenter", f"--net={space.netns}", "nft", "-f", "-"], input=lines, text=True, check=True, timeout=60
        )
        assert any(change.lost for change in changes.read())
    finally:
        changes.close()


def test_counters_of_both_tables_are_added_up(space: Room) -> None:
    tables = shop().tables
    both = Ruleset((tables[0], Table("bridge", counters=frozenset({"refused", "held"}))))
    space.apply(both)
    assert space.kernel.counters() == {"refused": (0, 0), "held": (0, 0)}
    count = Chain("type filter hook output priority -5; policy accept;", (rule("counter name refused"),))
    chains = {**tables[0].chains, "outgoing": count}
    space.apply(
        Ruleset((Table("inet", sets=tables[0].sets, counters=tables[0].counters, chains=chains), both.tables[1]))
    )
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(72), ('127.0.0.1', 9))"
    space.run(sys.executable, "-c", code)
    packets, octets = space.kernel.counters()["refused"]
    assert packets >= 1
    assert octets >= 100
    assert space.kernel.counter("refused") == space.kernel.counters()["refused"][0]
    assert space.kernel.counter("held") == 0
    assert space.kernel.counter("of nobody") is None


def test_every_transaction_makes_another_generation(space: Room) -> None:
    space.apply(shop())
    before = space.kernel.generation()
    assert space.kernel.generation() == before
    assert space.nft("add", "table", "inet", "foreign") == ""
    assert space.kernel.generation() == before + 1
    assert space.apply(Ruleset()) == 1
    assert space.kernel.generation() == before + 2


# The helper itself


def test_a_hundred_thousand_elements_in_one_batch(space: Room) -> None:
    addresses = frozenset(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_000))
    ways = frozenset(f"{address} : goto web" for address in addresses)
    sets = {
        "many": ElementSet("ipv4_addr", elements=addresses),
        "ways": ElementSet("ipv4_addr", data="verdict", elements=ways),
    }
    wanted = Ruleset((Table("inet", sets=sets, chains={"web": Chain("", (rule("accept"),))}),))
    space.apply(wanted)
    assert settled(wanted, space.kernel.observe())
    status = Path(f"/proc/{space.helper_pid()}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < 60_000, f"{resident} kB after a large batch: memory is not given back"


def test_it_works_without_root(tmp_path: Path) -> None:
    """In a user namespace, the helper started by whoever needs it, in the network of that process."""
    script = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from stockade.adapters.nft import NftKernel
from stockade.testing.kernel import FakeKernel
from test_nft_ownership import Room, settled, shop
kernel = NftKernel(Path({str(tmp_path / "rootless.sock")!r}), FakeKernel())
try:
    Room.apply(None, shop(), kernel)
    assert settled(shop(), kernel.observe())
    print(all(kernel.owned().values()), kernel.counters())
finally:
    kernel.helper.release()
"""
    done = subprocess.run(
        ["unshare", "-Urnm", sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("True {'refused': (0, 0)}", "False {'refused': (0, 0)}")


def test_only_its_own_user_and_root_are_answered(space: Room) -> None:
    space.kernel.helper.ping()
    mode = stat.S_IMODE(space.socket.stat().st_mode)
    assert mode == 0o600
    space.socket.chmod(0o777)
    for folder in (space.socket.parent, *space.socket.parent.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and os.access(folder, os.W_OK):
            folder.chmod(0o755)
    code = f"""
import os, socket
os.setgroups([]); os.setgid(65534); os.setuid(65534)
c = socket.socket(socket.AF_UNIX); c.settimeout(10); c.connect({str(space.socket)!r})
try:
    c.sendall(b"\\0\\0\\0\\x0e" + b'{{"do": "ping"}}')
    print(c.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print(b"")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    if "Operation not permitted" in done.stderr or "Invalid argument" in done.stderr:
        pytest.skip("this machine lets the tests be only one user")
    assert done.stdout.strip() == "b''", done.stderr


def test_a_client_that_stalls_or_babbles_delays_nobody(space: Room) -> None:
    space.kernel.helper.ping()
    clients = []
    for sent in (b"", b"\0\0", struct.pack(">I", 1000) + b"{", b"GET / HTTP/1.0\r\n\r\n", struct.pack(">I", 2) + b"[]"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(space.socket))
        client.sendall(sent)
        clients.append(client)
    assert space.kernel.observe() == Ruleset()
    assert clients[-1].recv(10) == b""
    assert clients[-2].recv(10) == b""
    for client in clients:
        client.close()


@pytest.mark.fault
def test_a_stale_socket_is_replaced(space: Room) -> None:
    pid = space.kill_helper()
    assert space.socket.exists()
    assert space.helper_pid() != pid
    kill(space.helper_pid())
    space.socket.unlink()
    space.socket.write_text("not a socket")
    assert space.kernel.observe() == Ruleset()


@pytest.mark.fault
@pytest.mark.parametrize("deleted", [("nft.sock",), ("nft.sock", "nft.sock.lock")], ids=["socket", "socket and lock"])
def test_a_helper_whose_files_are_deleted_makes_way(space: Room, deleted: tuple[str, ...]) -> None:
    stranger = space.another("elsewhere.sock")
    other = stranger.helper.ping()["pid"]
    space.apply(shop())
    pid = space.helper_pid()
    space.kernel.close()
    for name in deleted:
        space.socket.with_name(name).unlink()
    assert settled(shop(), space.kernel.observe())
    assert space.helper_pid() != pid
    assert gone(pid)
    assert alive(other), "a helper of another socket is nobody's business"
    if space.kernel.owned():
        assert all(space.kernel.owned().values())
    stranger.helper.release()


@pytest.mark.fault
def test_two_helpers_that_race_end_as_one(space: Room) -> None:
    found: set[int] = set()

    def start() -> None:
        helper = Helper(space.socket, netns=space.netns, deadline=20)
        found.add(helper.ping()["pid"])
        helper.close()

    for _ in range(5):
        found.clear()
        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 1
        kill(found.pop())


@pytest.mark.fault
def test_a_helper_that_hangs_is_given_up_and_replaced(space: Room) -> None:
    space.apply(shop())
    pid = space.helper_pid()
    os.kill(pid, signal.SIGSTOP)
    hasty = Helper(space.socket, netns=space.netns, deadline=0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        hasty.ping()
    assert time.monotonic() - began < 10
    space.kernel.helper.replace()
    assert gone(pid)
    assert settled(shop(), space.kernel.observe())


def test_it_outlives_whoever_started_it(space: Room) -> None:
    done = space.run(sys.executable, "-I", str(PROGRAM), str(space.socket))
    assert (done.returncode, done.stderr) == (0, "")
    pid = space.helper_pid()
    again = space.run(sys.executable, "-I", str(PROGRAM), str(space.socket))
    assert (again.returncode, space.helper_pid()) == (0, pid)
    assert os.getsid(pid) == os.getpgid(pid) != os.getsid(0)


def test_release_leaves_no_process_and_no_file(space: Room, tmp_path: Path) -> None:
    space.apply(shop())
    pid = space.helper_pid()
    space.kernel.helper.release()
    assert gone(pid)
    assert list(tmp_path.iterdir()) == []
    assert settled(shop(), space.kernel.observe())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_only_a_request_to_terminate_ends_it(space: Room, tmp_path: Path, number: int) -> None:
    space.apply(shop())
    pid = space.helper_pid()
    os.kill(pid, number)
    if number != signal.SIGTERM:
        assert space.helper_pid() == pid
        return
    assert gone(pid)
    assert list(tmp_path.iterdir()) == []
    assert settled(shop(), space.kernel.observe())


def test_one_that_does_not_start_in_time_is_an_error_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    monkeypatch.setattr("stockade.adapters.nft.helper.PROGRAM", slow)
    with pytest.raises(TimeoutError, match=r"has not started within 0\.3 s"):
        Helper(tmp_path / "nft.sock", deadline=0.3).ping()


def test_what_keeps_it_from_starting_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"does not start: .*No such file"):
        Helper(tmp_path / "nft.sock", netns=str(tmp_path / "nowhere")).ping()
    with pytest.raises(OSError, match="No such file"):
        Helper(tmp_path / "missing" / "nft.sock").ping()
