"""What people see and ask of retraining beside its rules: deliveries, a replay, a model that goes, and its end."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from penstock.control.retraining.row_source import AvailableRows
from penstock.core.errors import Conflict, NotFound, NotReady
from penstock.core.policies import MonitorPolicy
from penstock.registry.stores.traffic import TrialEvent
from penstock.telemetry import delivery_metrics as metrics
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
    assert [delivery["sink"] for delivery in shown["deliveries"]] == ["log"]
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


def test_a_request_that_loses_against_the_rules_every_time_is_refused(
    asked: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked.kept()

    def conflict(*_: Any, **__: Any) -> int:
        raise Conflict("the rules were written meanwhile")

    monkeypatch.setattr(asked.outbox, "commit", conflict)
    with pytest.raises(Conflict, match="the rules of the model are changing; try again"):
        asked.act(partial(asked.rules.ask, "m", {}, ME))
    assert asked.kept() == before


def test_only_the_gateway_that_leads_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(setup.outbox, "acquire_leadership", lambda: False)
        assert setup.step().in_flight is None
    assert setup.step().in_flight is not None


def test_without_rules_the_database_is_not_queried_for_the_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> bool:
        raise AssertionError

    setup = Setup(tmp_path)
    setup.policy = MonitorPolicy()
    monkeypatch.setattr(setup.outbox, "acquire_leadership", asked)
    setup.act(setup.rules.judge_all)


def test_rows_that_a_fleet_handed_over_are_an_event_of_the_one_that_leads(
    asked: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"id": "e1", "data": {"model": "m", "version": "3"}}
    gathered = AvailableRows(0, {}, {})
    monkeypatch.setattr(asked.rules._rows, "table", lambda *_: gathered)
    assert asked.rules._gather(event, asked.folder) is None
    gathered = AvailableRows(7, {"a": 3, "b": 4}, {})
    found = asked.rules._gather(event, asked.folder)
    assert found is not None
    assert found.coverage["rows"] == 7
    events = [item for item in asked.world.traffic.events("m") if item["type"] == "io.penstock.retraining.rows.v1"]
    assert [(item["data"]["event"], item["data"]["rows"]) for item in events] == [("e1", 7)]


def test_rules_are_shown_with_their_state_and_what_they_rest_on(asked: Setup) -> None:
    (shown,) = asked.act(partial(asked.rules.document, "m"))
    (rule,) = shown["rules"]
    assert (rule["name"], rule["state"], rule["sinks"], rule["when"]) == ("r", "firing", ["log"], {"drift": {}})
    assert (rule["holds"], rule["evidence"][0]["statistic"]) == (True, "e-SR")
    assert (rule["outcome"], rule["times"]) == ("requested", 1)
    assert rule["cools_until"] == rule["asked"] + 3600
    assert shown["in_flight"]["version"] == "3"
    assert shown["limits"]["approval"] is True
    assert len(shown["requests"]) == 1
    (delivery,) = shown["deliveries"]
    assert delivery["type"] == "io.penstock.retraining.requested.v1"
    assert (delivery["sequence"], delivery["created"]) == (1, delivery["due"])
    asked.can_judge = False  # another gateway leads
    (elsewhere,) = asked.act(partial(asked.rules.document, "m"))[0]["rules"]
    assert (elsewhere["holds"], elsewhere["evidence"], elsewhere["state"]) == (None, [], "firing")
    with pytest.raises(NotFound):
        asked.act(partial(asked.rules.document, "n"))


def test_one_delivery_is_tried_again(asked: Setup) -> None:
    asked.outbox.mark_dead(asked.outbox.due()[0], "gone", TrialEvent("delivery.failed.v1", "models/m", "1", {}))
    (dead,) = asked.outbox.deliveries("m")
    assert (dead["state"], dead["due"]) == ("dead", None)
    for event, sink in ((dead["event"], "other"), ("other", "log")):
        with pytest.raises(NotFound, match="no dead or waiting"):
            asked.act(partial(asked.rules.replay, "m", ME, event, sink))
    assert asked.act(partial(asked.rules.replay, "m", ME, dead["event"], "log")) == [{"deliveries": 1}]
    assert asked.outbox.deliveries("m")[0]["state"] == "pending"
