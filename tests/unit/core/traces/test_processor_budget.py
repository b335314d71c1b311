"""How much processor time work may take, at once and on average."""

import pytest

from penstock.core.traces.processor_budget import ProcessorBudget


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_work_takes_its_share_on_average(share: float) -> None:
    now = 0.0
    budget = ProcessorBudget(share, lambda: now)
    spent = 0.0
    for _ in range(10_000):
        now += 0.01
        if budget.has_left():
            budget.spend(0.02)
            spent += 0.02
    assert spent / now == pytest.approx(share, rel=0.05)


def test_what_was_not_taken_is_left_for_a_second() -> None:
    now = 0.0
    budget = ProcessorBudget(0.1, lambda: now)
    now = 1000.0
    assert budget.has_left()
    budget.spend(0.1)
    assert not budget.has_left()


def test_what_was_taken_beyond_is_made_up_for() -> None:
    now = 0.0
    budget = ProcessorBudget(0.1, lambda: now)
    budget.spend(0.6)
    now = 4.9
    assert not budget.has_left()
    now = 5.1
    assert budget.has_left()
