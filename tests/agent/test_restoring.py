"""What was in force last, brought into force from nothing but itself, whatever dies meanwhile."""

import pytest

from stockade.agent.restoring import restore
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.fold import fold
from stockade.core.model.intent import Intent
from stockade.core.reconcile import settled, steps, text
from stockade.errors import StockadeError
from stockade.testing.inventories import HOST_A
from stockade.testing.kernel import FakeKernel
from stockade.testing.worlds import world_events

SEEDS = range(12)


def intent(seed: int) -> Intent:
    return compile_snapshot(fold(world_events(seed)))[HOST_A]


class Reviving(FakeKernel):
    """A kernel whose helper is replaced when it is looked at and has died, as the real client does."""

    def observe(self):  # type: ignore[no-untyped-def]
        """Return our tables as they are now."""
        if self.gone:
            self.revive()
        return super().observe()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_restored_is_what_was_meant_and_once_is_enough(seed: int) -> None:
    wanted, kernel = intent(seed), FakeKernel(strict=True)
    assert restore(kernel, wanted) == len(kernel.batches) > 0
    assert settled(render(wanted), kernel.observe())
    assert restore(kernel, wanted) == 0


def test_what_is_there_in_part_is_completed() -> None:
    wanted, kernel = intent(3), FakeKernel()
    for step in steps(render(intent(4)), kernel.observe())[:-1]:
        kernel.commit(text(step))
    assert restore(kernel, wanted)
    assert settled(render(wanted), kernel.observe())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_a_helper_that_dies_on_the_way_is_replaced(at: int, after: bool) -> None:
    wanted, kernel = intent(5), Reviving()
    (kernel.die_after if after else kernel.die_before)(at)
    restore(kernel, wanted)
    assert settled(render(wanted), kernel.observe())


def test_what_came_into_force_later_is_not_replaced() -> None:
    later, kernel = intent(4), FakeKernel(strict=True)
    restore(kernel, later)
    with pytest.raises(StockadeError, match="after what was kept"):
        restore(kernel, intent(3))
    assert settled(render(later), kernel.observe())


def test_a_kernel_that_does_not_answer_is_said() -> None:
    kernel = FakeKernel()
    kernel.kill_helper()
    with pytest.raises(StockadeError, match="could not be restored") as raised:
        restore(kernel, intent(1))
    assert raised.value.kept
    assert raised.value.remedy


class Flushed(FakeKernel):
    """A kernel whose rules somebody else flushes whenever they were written."""

    def commit(self, batch: str) -> None:
        """Carry out one transaction, and lose it."""
        super().commit(batch)
        self.owned = False
        self.flush_ruleset()


def test_somebody_who_undoes_it_every_time_ends_it() -> None:
    with pytest.raises(StockadeError):
        restore(Flushed(), intent(1))
