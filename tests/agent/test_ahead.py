"""Looking ahead before a switch: nobody met in the middle is missed, and the walk is spared where nobody is there."""

from collections.abc import Iterable

import msgspec

from stockade.agent.sweep import Ahead
from stockade.core.compile.nft.judging import MET
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, Ruleset, Table
from stockade.core.model.ids import Address, HostId, Revision, Version
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births
from stockade.core.reconcile import steps, text
from stockade.seams.kernel import Connection
from stockade.testing.kernel import FakeKernel

INTENT = Intent(HostId("host-a"), Revision(1), Version(1), Births.PASS)
"""Nobody is judged here, so everybody is allowed."""
ONE, OTHER = Address("10.0.0.1"), Address("10.0.0.2")
OLDER = Connection(6, ONE, OTHER, 40000, 80, OTHER, ONE, 80, 40000, mark=MARKS.older | MARKS.reverse)
MISSED = msgspec.structs.replace(OLDER, source_port=40001, reply_destination_port=40001, mark=0, midway=True)
"""Met in the middle by the kernel, before there were rules to mark it."""
BEGUN = msgspec.structs.replace(OLDER, source_port=40002, reply_destination_port=40002, mark=0)
HOOK = Chain("type filter hook forward priority -5; policy accept;", (rule("accept"),))
TABLES = Ruleset(
    tuple(Table(each, counters=frozenset({MET}), chains={"forwarding": HOOK}) for each in ("inet", "bridge"))
)


class Walked(FakeKernel):
    """Counts how often its connections are walked, and searched for whom nobody marked."""

    def __init__(self) -> None:
        super().__init__()
        self.walks = self.searched = 0

    def connections(self, mark: int = 0, mask: int = 0) -> Iterable[Connection]:
        self.walks += 1
        return super().connections(mark, mask)

    def midway(self) -> Iterable[Connection]:
        self.searched += 1
        return super().midway()


def counting() -> Walked:
    kernel = Walked()
    write(kernel)
    return kernel


def write(kernel: FakeKernel) -> None:
    """Write our tables, whose hooks lead somewhere and which count."""
    for step in steps(TABLES, kernel.observe()):
        kernel.commit(text(step))


def met(kernel: Walked) -> None:
    """A connection is met in the middle, as the rules meet it."""
    kernel.count("inet", MET, 1)
    kernel.track(OLDER)


def seen_to(kernel: Walked) -> bool:
    """Tell whether the mark of what is allowed in reverse was taken from all that do not need it."""
    return not any(each.mark & MARKS.reverse for each in FakeKernel.connections(kernel))


def test_after_two_looks_that_found_nobody_no_walk_is_made() -> None:
    kernel = counting()
    ahead = Ahead(kernel)
    for _ in range(5):
        ahead.look(INTENT)
    assert kernel.walks == 2


def test_whoever_is_met_later_is_seen_to() -> None:
    kernel = counting()
    ahead = Ahead(kernel)
    for _ in range(3):
        ahead.look(INTENT)
    met(kernel)
    ahead.look(INTENT)
    assert seen_to(kernel)


def test_whoever_is_counted_before_it_can_be_found_is_seen_to_by_the_next_look() -> None:
    kernel = counting()
    ahead = Ahead(kernel)
    kernel.count("inet", MET, 1)
    ahead.look(INTENT)
    kernel.track(OLDER)
    ahead.look(INTENT)
    assert seen_to(kernel)


def test_as_long_as_somebody_is_there_every_look_walks() -> None:
    kernel = counting()
    ahead = Ahead(kernel)
    met(kernel)
    for _ in range(4):
        ahead.look(INTENT)
    assert kernel.walks == 4


def test_tables_that_are_made_anew_count_from_the_beginning() -> None:
    kernel = counting()
    kernel.count("inet", MET, 1)
    ahead = Ahead(kernel)
    for _ in range(3):
        ahead.look(INTENT)
    kernel.kill_helper()
    kernel.revive(owned=False)
    kernel.flush_ruleset()
    write(kernel)
    met(kernel)
    ahead.doubt(kernel.observe())
    ahead.look(INTENT)
    assert seen_to(kernel)


def test_without_tables_there_is_nothing_to_go_by() -> None:
    kernel = Walked()
    ahead = Ahead(kernel)
    kernel.track(OLDER)
    for _ in range(4):
        ahead.look(INTENT)
    assert kernel.walks == 4
    assert seen_to(kernel)


def marks(kernel: FakeKernel) -> dict[int, bool]:
    """Return, by source port, whether a connection is marked as met in the middle."""
    return {each.source_port: bool(each.mark & MARKS.older) for each in FakeKernel.connections(kernel)}


def test_whom_the_kernel_met_before_there_were_rules_is_marked_as_if_the_rules_had() -> None:
    kernel = counting()
    kernel.track(MISSED)
    kernel.track(BEGUN)
    Ahead(kernel).look(INTENT)
    assert marks(kernel) == {40001: True, 40002: False}


def test_whom_the_kernel_met_while_the_first_rules_were_written_is_found_by_the_next_look() -> None:
    kernel = Walked()
    ahead = Ahead(kernel)
    ahead.doubt(kernel.observe())
    ahead.look(INTENT)
    kernel.track(MISSED)
    write(kernel)
    ahead.look(INTENT)
    assert marks(kernel) == {40001: True}


def test_a_switch_that_failed_is_none() -> None:
    """Some of the tables are there, and count, but no hook leads to them: the kernel tracks, and nobody marks."""
    kernel = Walked()
    ahead = Ahead(kernel)
    for step in steps(Ruleset(tuple(Table(each.family, counters=each.counters) for each in TABLES.tables)), Ruleset()):
        kernel.commit(text(step))
    for _ in range(3):
        ahead.doubt(kernel.observe())
        ahead.look(INTENT)
    kernel.track(MISSED)
    write(kernel)
    ahead.look(INTENT)
    assert marks(kernel) == {40001: True}


def test_once_nobody_was_missed_only_who_is_marked_is_looked_for() -> None:
    kernel = counting()
    ahead = Ahead(kernel)
    kernel.track(MISSED)
    for _ in range(6):
        ahead.look(INTENT)
    assert (kernel.walks, kernel.searched) == (6, 3)
    ahead.doubt(kernel.observe())
    ahead.look(INTENT)
    assert (kernel.walks, kernel.searched) == (7, 3)
    ahead.doubt(Ruleset())
    ahead.look(INTENT)
    assert (kernel.walks, kernel.searched) == (8, 4)
