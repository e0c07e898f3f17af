"""So many a second and so long a second, whatever was saved up or overspent before."""

from stockade.core.budget import Budget


def test_time_that_was_taken_is_paid_for_before_the_next() -> None:
    budget = Budget(100, (0.5, 0.02))
    assert budget.allows(1000.0) == 100
    budget.spend(1, 0.4, 0.05)
    assert budget.allows(1000.0) == 0
    assert budget.allows(1001.0) == 0, "0.05 less 0.02 is still owed"
    assert budget.allows(1002.0) == 100


def test_no_more_is_saved_up_than_a_second_s_and_a_clock_that_goes_back_gives_nothing() -> None:
    budget = Budget(100)
    assert budget.allows(0.0) == 100
    budget.spend(60)
    assert budget.allows(0.5) == 90
    budget.spend(90)
    assert budget.allows(0.0) == 0
    assert budget.allows(1000.0) == 100
    budget.spend(250)
    assert budget.allows(1001.0) == 0, "what was overspent is paid for"
