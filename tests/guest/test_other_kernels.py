"""Debian's kernels, each in a guest: 6.1, whose tables cannot be owned, and the newest that backports have.

Both track bridged connections, which the machines that this is developed on do not: only here is the judgement in the
bridge family loaded, and met by real packets. ``STOCKADE_GUEST=full`` tries more of everything (an hour in software
emulation); ``python -m stockade.testing.guest stable 'SCRIPT'`` tries one thing.
"""

import os
import re
from collections.abc import Iterator

import pytest

from stockade.errors import StockadeError
from stockade.testing.guest import BACKPORTS, STABLE, Guest, running
from stockade.testing.guest.ours import CHECKOUT

FULL = os.environ.get("STOCKADE_GUEST") == "full"
PATIENCE = 3000.0 if FULL else 600.0
pytestmark = [pytest.mark.guest, pytest.mark.timeout(4000 if FULL else 900)]

SUITE = ("kernel/test_adversary", "kernel/test_any_port", "kernel/test_sctp_sockets", "adapters/test_nft_ownership")
SOME = """
  test_adversary and (raw_socket_gains_nothing and 4 or tagged_frame_gains and 7 or middle_of_nothing)
  or test_any_port or test_sctp_sockets
  or test_nft_ownership and (plain_tables or changes_by_others)
"""
"""What of it is tried where there is not an hour."""
WORLDS = 12 if FULL else 1


@pytest.fixture(scope="module", params=[STABLE, BACKPORTS])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    try:
        with running(request.param, memory=2048, lifetime=PATIENCE * 4) as booted:
            yield booted
    except StockadeError as problem:
        if "apt" in str(problem) and "offer" in str(problem):
            pytest.skip(f"this machine: {problem}")
        raise


@pytest.fixture(scope="module")
def old(guest: Guest) -> bool:
    """Whether the kernel cannot keep tables for their owner (before 6.9)."""
    version = re.match(r"(\d+)\.(\d+)", guest.check("uname -r"))
    assert version is not None
    return (int(version[1]), int(version[2])) < (6, 9)


def inside(guest: Guest, script: str) -> str:
    """Run a script in the checkout; it must succeed."""
    return guest.check(f"cd {CHECKOUT} && export PATH=$PWD/.venv/bin:$PATH && {script}", timeout=PATIENCE)


def passing(guest: Guest, what: str, bridges: str = "inet") -> None:
    """Run tests of this checkout inside; some must pass, and none may be skipped or fail."""
    said = inside(guest, f"STOCKADE_BRIDGES={bridges} pytest -q -p no:cacheprovider -o timeout=600 {what} 2>&1")
    assert re.search(r"\d+ passed", said), said
    assert FULL or "skipped" not in said, said


def checks(guest: Guest) -> dict[str, str]:
    """Return what ``doctor`` says, by check. Its status tells of warnings."""
    done = guest.run(f"cd {CHECKOUT} && .venv/bin/stockade doctor", timeout=PATIENCE)
    assert done.status in (0, 2), done.text
    found = re.findall(r"^[●◐✕?] (\S.*?)  +(good|warning|problem|not assessed)  +(.*)$", done.text, re.MULTILINE)
    return {name: f"{judged}: {why}" for name, judged, why in found}


def test_the_doctor_says_what_the_kernel_can(guest: Guest, old: bool) -> None:
    said = checks(guest)
    assert said["nftables"].startswith("good"), said
    assert said["table ownership"].startswith("warning: kernel" if old else "good: owner and persist"), said
    assert not [each for each in said.values() if each.startswith("problem")], said


def test_the_suite_holds_where_the_bridge_family_judges(guest: Guest) -> None:
    """Hostile containers, any port, the kernel's own SCTP sockets, tables as safe as the kernel lets them be.

    At once: to start it takes longer here than to run it.
    """
    guest.check("modprobe sctp")
    only = "" if FULL else f"-k '{' '.join(SOME.split())}'"
    passing(guest, f"{' '.join(f'tests/{each}.py' for each in SUITE)} {only}", bridges="bridge")


def test_the_kernel_does_what_the_oracle_says_where_the_bridge_family_judges(guest: Guest, old: bool) -> None:
    if not FULL and not old:
        pytest.skip("this machine emulates: a world is tried on the older kernel, on both with STOCKADE_GUEST=full")
    assert " 0 differ" in inside(guest, f"python -m stockade.testing.kernel_worlds 7000 {WORLDS} --bridge")


@pytest.mark.parametrize("kind", ["vlan", "macvlan", "ipvlan"])
def test_links_that_the_development_kernel_lacks_are_there(guest: Guest, kind: str) -> None:
    more = "id 7" if kind == "vlan" else ""
    guest.check(
        "ip link add under type veth peer name over && "
        f"ip link add link under name it type {kind} {more} && ip -d link show it; s=$?; ip link del under; exit $s"
    )


if FULL:

    def test_strangers_keep_what_they_had_and_gain_nothing_where_the_bridge_family_judges(guest: Guest) -> None:
        passing(guest, "tests/kernel/test_from_before.py", bridges="bridge")

    def test_where_bridged_packets_are_shown_to_the_inet_family_all_holds_too(guest: Guest) -> None:
        guest.check("modprobe br_netfilter")
        passing(
            guest,
            "tests/kernel/test_adversary.py tests/kernel/test_revocation.py tests/kernel/test_newborn.py "
            "tests/kernel/test_from_before.py",
        )
        assert " 0 differ" in inside(guest, f"python -m stockade.testing.kernel_worlds 7100 {WORLDS}")
