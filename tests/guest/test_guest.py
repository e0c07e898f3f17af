"""A guest as a tool: commands and their words, files in and out, resets, a disk that outlives them, and its end."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.testing.guest import STABLE, Guest, GuestError, Machine, empty, kernel, modules, programs
from stockade.testing.guest.ours import CHECKOUT

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]


def machine(**more: object) -> Machine:
    chosen = kernel(STABLE)
    return Machine(chosen, (modules(chosen), programs(CHECKOUT)), memory=512, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with Guest(machine()) as booted:
        yield booted


def test_a_command_says_what_it_says_and_how_it_ended(guest: Guest) -> None:
    done = guest.run("uname -r; echo wrong >&2; exit 3")
    assert (done.status, done.text) == (3, f"{guest.machine.kernel.version}\nwrong\n")


def test_its_words_are_heard_while_it_runs(guest: Guest) -> None:
    first = threading.Event()
    told: list[bytes] = []

    def hear(said: bytes) -> None:
        told.append(said)
        first.set()

    thread = threading.Thread(target=guest.run, args=("echo one; cat /tmp/go; echo two",), kwargs={"heard": hear})
    guest.check("mkfifo /tmp/go")
    thread.start()
    assert first.wait(60)
    assert b"".join(told) == b"one\n"
    guest.check("echo go > /tmp/go")
    thread.join(60)
    assert b"".join(told) == b"one\ngo\ntwo\n"


def test_what_takes_too_long_is_killed(guest: Guest) -> None:
    assert guest.run("sleep 600", timeout=1).status == 137
    assert guest.check("echo still") == "still\n"


def test_files_go_in_and_come_out_as_they_are(guest: Guest) -> None:
    content = bytes(range(256)) * 1000
    guest.copy_in(content, "/tmp/deep/file")
    assert guest.copy_out("/tmp/deep/file") == content


def test_a_guest_that_cannot_boot_says_what_it_showed() -> None:
    guest = Guest(machine(init="/nowhere", append="panic=600"))
    try:
        guest._start()
        until = time.monotonic() + 200
        while "Kernel panic" not in guest.last_words and time.monotonic() < until:
            time.sleep(0.2)
        with pytest.raises(GuestError, match="Kernel panic"):
            guest.wait(1)
    finally:
        guest.close()


def test_a_kept_disk_outlives_a_reset_and_memory_does_not(tmp_path: Path) -> None:
    with Guest(machine(kept=empty(tmp_path / "kept.ext4", 64 << 20))) as guest:
        guest.check("echo kept > /root/kept; echo lost > /run/lost; sync")
        guest.reset()
        assert guest.check("cat /root/kept; ls /run/lost 2>/dev/null; true") == "kept\n"
        guest.reboot()
        assert guest.check("cat /root/kept") == "kept\n"
        pid = guest.pid
        guest.power_off()
    time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
