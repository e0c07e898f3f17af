"""Netlink sockets are used again: to close one of netfilter's waits for the kernel to clear its rulesets up."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from nft_rooms import Room, room

from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.adapters.nft.foreign import ForeignTables
from stockade.within import NetlinkSockets


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Room]:
    with room(tmp_path) as made:
        yield made


def sockets() -> set[str]:
    """Every socket of this process, by the inode that the kernel gives to no other."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(each.readlink()))
    return {each for each in found if each.startswith("socket:")}


def test_a_socket_is_lent_to_one_at_a_time_and_used_again() -> None:
    with closing(NetlinkSockets(socket.NETLINK_ROUTE)) as links:
        with links.lent(1.0) as one, links.lent(2.0) as other:
            assert one is not other
            assert (one.gettimeout(), other.gettimeout()) == (1.0, 2.0)
        with links.lent(3.0) as again:
            assert again in (one, other)
            assert again.gettimeout() == 3.0
    assert one.fileno() == other.fileno() == -1


@pytest.mark.parametrize("problem", [TimeoutError, KeyboardInterrupt, GeneratorExit])
def test_where_an_answer_may_be_left_in_it_it_is_not_used_again(problem: type[BaseException]) -> None:
    with closing(NetlinkSockets(socket.NETLINK_ROUTE)) as links:
        with pytest.raises(problem), links.lent(1.0) as link:
            raise problem
        assert link.fileno() == -1
        with links.lent(1.0) as another:
            assert another.fileno() >= 0


@pytest.mark.real
def test_whoever_reads_the_kernel_again_and_again_closes_nothing(space: Room) -> None:
    with closing(space.kernel), closing(Conntrack(space.netns)) as tracking:
        foreign = ForeignTables(space.netns)
        reads: list[Callable[[], object]] = [
            space.kernel.generation,
            space.kernel.counters,
            lambda: space.kernel.counter("none"),
            tracking.fill,
            lambda: list(tracking.connections()),
            lambda: tracking.forget(["10.0.0.1", "fd00::1"]),
            foreign.read,
        ]
        for each in reads:
            each()
        kept = sockets()
        for each in reads * 3:
            each()
            assert sockets() <= kept, "what is closed and opened anew is another"


@pytest.mark.real
def test_a_walk_that_is_left_early_leaves_nothing_to_the_next(space: Room) -> None:
    space.run("ip", "link", "set", "lo", "up")
    space.nft(
        "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new"
    )
    for port in (9, 10, 11):
        space.run("bash", "-c", f"echo > /dev/udp/127.0.0.1/{port}")
    with closing(Conntrack(space.netns)) as tracking:
        assert len(list(tracking.connections())) == 3
        walk = iter(tracking.connections())
        next(walk)
        walk.close()
        assert sorted(each.destination_port for each in tracking.connections()) == [9, 10, 11]
