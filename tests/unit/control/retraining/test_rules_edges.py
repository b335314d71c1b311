"""What people see and ask of retraining beside its rules: deliveries, a replay, a model that goes, and its end."""

from functools import partial
from pathlib import Path

import pytest

from penstock.core.errors import NotFound, NotReady
from penstock.telemetry import metrics
from tests.unit.control.plane.test_metrics import points
from tests.unit.control.retraining.test_rules import Setup
from tests.unit.control.trials import ME


@pytest.fixture
def asked(tmp_path: Path) -> Setup:
    """Rules that have asked once."""
    setup = Setup(tmp_path)
    setup.step()
    return setup


def test_deliveries_are_shown_and_tried_again_where_any_was_given_up(asked: Setup) -> None:
    (shown,) = asked.act(partial(asked.rules.deliveries, "m"))
    assert [one["sink"] for one in shown["deliveries"]] == ["log"]
    assert "problem" not in shown
    with pytest.raises(NotFound, match="no dead or waiting deliveries"):
        asked.act(partial(asked.rules.replay, "m", ME))
    with pytest.raises(NotFound):
        asked.act(partial(asked.rules.deliveries, "n"))


def test_nothing_is_judged_while_the_monitor_cannot(asked: Setup) -> None:
    before = asked.kept()
    asked.can_judge = False
    assert asked.step(7200) == before


def test_counts_of_a_model_that_is_gone_are_not_shown(asked: Setup) -> None:
    assert points(asked.rules.readings(), metrics.RETRAINING_REQUESTS)
    asked.rules._outcomes["gone", "r", "requested"] = 3
    assert ("gone", "r", "requested") not in points(asked.rules.readings(), metrics.RETRAINING_REQUESTS)


def test_its_threads_end_with_it(asked: Setup) -> None:
    assert len(asked.rules.pools) >= 3
    asked.rules.close()
    with pytest.raises(NotReady, match="the gateway is stopping"):
        asked.act(partial(asked.rules.deliveries, "m"))
