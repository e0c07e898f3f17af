"""Faults of the kernel in memory, and its connections. Its rules are compared with the real kernel's elsewhere."""

import pytest

from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, Ruleset, Table
from stockade.core.model.ids import Address
from stockade.core.reconcile import settled, steps, text
from stockade.seams.kernel import Connection, Fill, Kernel, KernelRefused
from stockade.testing.kernel import FakeKernel

WANTED = Ruleset(
    (
        Table(
            "inet",
            counters=frozenset({"refused"}),
            chains={
                "incoming": Chain("type filter hook input priority -5; policy accept;", (rule("goto web"),)),
                "web": Chain("", (rule("counter name refused drop"),)),
            },
        ),
    )
)


def apply(kernel: Kernel, wanted: Ruleset) -> None:
    for step in steps(wanted, kernel.observe()):
        kernel.commit(text(step))


def test_a_helper_that_dies_first_has_done_nothing() -> None:
    kernel = FakeKernel()
    kernel.die_before(2)
    with pytest.raises(OSError, match="does not answer"):
        apply(kernel, WANTED)
    with pytest.raises(OSError, match="does not answer"):
        kernel.observe()
    kernel.revive()
    assert not any(chain.hook for chain in kernel.observe().tables[0].chains.values())
    apply(kernel, WANTED)
    assert settled(WANTED, kernel.observe())


def test_a_helper_that_dies_last_has_done_it_all() -> None:
    kernel = FakeKernel()
    kernel.die_after(2)
    with pytest.raises(OSError, match="does not answer"):
        apply(kernel, WANTED)
    kernel.revive()
    assert settled(WANTED, kernel.observe())
    assert len(kernel.batches) == 2


def test_others_may_write_only_what_nobody_owns() -> None:
    kernel = FakeKernel()
    apply(kernel, WANTED)
    with pytest.raises(PermissionError):
        kernel.tamper("flush chain inet stockade incoming\n")
    kernel.flush_ruleset()
    assert settled(WANTED, kernel.observe())
    kernel.kill_helper()
    kernel.tamper("flush chain inet stockade incoming\n")
    kernel.revive(owned=False)
    assert not settled(WANTED, kernel.observe())
    kernel.flush_ruleset()
    assert kernel.observe() == Ruleset()


def test_a_refused_batch_changes_nothing_and_is_no_batch() -> None:
    kernel = FakeKernel()
    apply(kernel, WANTED)
    with pytest.raises(KernelRefused, match="line 2: Device or resource busy"):
        kernel.commit("add counter inet stockade more\ndelete chain inet stockade web\n")
    assert settled(WANTED, kernel.observe())
    assert len(kernel.batches) == 2


def test_counters_move_and_are_added_up() -> None:
    kernel = FakeKernel()
    apply(kernel, Ruleset((*WANTED.tables, Table("bridge", counters=frozenset({"refused"})))))
    kernel.count("inet", "refused", 2, 120)
    kernel.count("bridge", "refused", 1, 60)
    assert kernel.counters() == {"refused": (3, 180)}


def test_connections_are_found_by_mark_ended_once_and_forgotten_by_address() -> None:
    kernel = FakeKernel()
    one = Connection(6, "10.0.0.1", "10.0.0.2", 4000, 80, "10.0.0.2", "10.0.0.1", 80, 4000)
    shown = Connection(6, "10.0.0.1", "198.51.100.1", 4001, 80, "10.0.0.3", "10.0.0.1", 80, 4001)
    first, second = kernel.track(one), kernel.track(shown)
    assert kernel.mark(first, 0x5)
    assert [each.source_port for each in kernel.connections(0x4, 0x4)] == [4000]
    assert kernel.forget([Address("10.0.0.3")]) == 1
    assert not kernel.end(second)
    assert kernel.end(one)
    assert not kernel.mark(first, 1)
    kernel.limit = 0
    kernel.track(one)
    assert kernel.fill() == Fill(0, 0, 1)
