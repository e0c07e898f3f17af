"""Looking ahead before a switch: nobody met in the middle is missed, and the walk is spared where nobody is there."""

from collections.abc import Iterable

from stockade.agent.sweep import Ahead
from stockade.core.compile.nft.judging import MET
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.ruleset import Ruleset, Table
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


class Walked(FakeKernel):
    """Counts how often its connections are walked."""

    def __init__(self) -> None:
        super().__init__()
        self.walks = 0

    def connections(self, mark: int = 0, mask: int = 0) -> Iterable[Connection]:
        self.walks += 1
        return super().connections(mark, mask)


def counting() -> Walked:
    kernel = Walked()
    table = Table("inet", counters=frozenset({MET}))
    for step in steps(Ruleset((table,)), kernel.observe()):
        kernel.commit(text(step))
    return kernel


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
    for step in steps(Ruleset((Table("inet", counters=frozenset({MET})),)), kernel.observe()):
        kernel.commit(text(step))
    met(kernel)
    ahead.doubt()
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
