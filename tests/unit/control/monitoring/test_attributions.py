"""Attributions that workers send: their importance, events of drift within the budget, metrics, and a restart."""

import asyncio
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from penstock.cli.monitor import render
from penstock.control.monitoring import attributions
from penstock.control.monitoring.attributions import AttributionDrift
from penstock.control.workers.protocol import ATTRIBUTIONS, Message, encode_rows
from penstock.core.desired import Desired
from penstock.core.errors import NotFound
from penstock.monitor.attributions import LEARNED_ROWS
from penstock.monitor.columns import RowValues
from penstock.registry.records import Document
from penstock.telemetry import explanation_metrics, metrics
from penstock.telemetry.metric import Metric
from penstock.telemetry.readings import Point
from tests.unit.control.test_monitoring import Watcher, trained
from tests.unit.control.trials import ME, World

FEATURES = ("x[0]", "x[1]", "x[2]")
ON = {"monitor": {"explained_rows_per_second": 10, "window_seconds": 60}}


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    found = Watcher(World(tmp_path), tmp_path)
    found.give(trained())
    asyncio.run(found.monitoring.set_policy("m", ON, ME))
    return found


def message_of(watcher: Watcher, rows: int, factor: float = 1.0, **other: object) -> Message:
    sizes = np.abs(watcher.generator.normal(size=(rows, 3))) * np.array([2.0 * factor, 1.0, 0.5])
    about = {"type": ATTRIBUTIONS, "model": "m", "version": "1", "digest": trained().digest, "problem": ""}
    how = {"features": list(FEATURES), "output": "y", "method": "tree", "scale": "margin"}
    return {**about, **how, "sizes": encode_rows([RowValues(sizes, ())]), **other}


def send(watcher: Watcher, rows: int, factor: float = 1.0) -> list[str]:
    """Send attributions of rows, eight in a second, and return the messages of the events."""
    sentences: list[str] = []
    for _ in range(rows // 8):
        watcher.monitoring.gathered(message_of(watcher, 8, factor))
        watcher.world.clock.now += 1
        events = watcher.monitoring._attributions.evaluate()
        sentences += [event.data["message"] for _, event in events]
    return sentences


def importance(watcher: Watcher, version: str | None = "1") -> Document:
    return asyncio.run(watcher.monitoring.importance("m", version))


def values_of(watcher: Watcher, metric: Metric) -> dict[Sequence[str], float]:
    found = watcher.monitoring._attributions.readings({("m", "1")})
    return {item.labels: item.value for item in found if isinstance(item, Point) and item.metric is metric}


def test_importance_comes_from_what_workers_send(watcher: Watcher) -> None:
    assert importance(watcher)["problem"] == attributions.NO_ROWS
    assert importance(watcher, "2")["problem"] == attributions.NO_REFERENCE
    send(watcher, 80)
    found = importance(watcher)
    assert (found["model"], found["version"], found["scope"]) == ("m", "1", "gateway")
    assert [item["name"] for item in found["features"]] == list(FEATURES)
    assert (found["window"], found["method"]) == ({"seconds": 60, "rows": 80}, "tree")
    shown = asyncio.run(watcher.monitoring.document("m", "1"))
    assert shown["importance"]["features"] == found["features"]
    assert values_of(watcher, explanation_metrics.EXPLAINED_ROWS) == {("m", "1"): 80}
    assert values_of(watcher, explanation_metrics.FEATURE_IMPORTANCE).keys() == {("m", "1", name) for name in FEATURES}
    assert values_of(watcher, metrics.DRIFT_STATE) == {}
    with pytest.raises(NotFound):
        importance(watcher, "9")
    assert importance(watcher, None)["version"] in ("1", "2", "3")


def test_where_no_rows_are_explained_the_document_says_how_to_have_them(watcher: Watcher) -> None:
    send(watcher, 16)
    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {}}, ME))
    assert send(watcher, 16) == []
    assert importance(watcher) == {
        "model": "m",
        "version": "1",
        "scope": "gateway",
        "problem": attributions.OFF,
        "features": [],
    }
    assert "importance" not in asyncio.run(watcher.monitoring.document("m", "1"))
    assert values_of(watcher, explanation_metrics.EXPLAINED_ROWS) == {}


def test_the_workers_share_the_rate(watcher: Watcher) -> None:
    assert watcher.watch().explained_rate == 5.0


def test_a_drift_of_attributions_is_an_event_and_a_metric_and_outlives_the_process(watcher: Watcher) -> None:
    assert send(watcher, LEARNED_ROWS + 400) == []
    sentences = send(watcher, 1200, factor=0.2)
    assert len(sentences) == 1 and sentences[0].startswith("attribution:x[0] drifts from its reference since ")
    states = values_of(watcher, metrics.DRIFT_STATE)
    assert states["m", "1", "attribution:x[0]"] == 1 and states["m", "1", "attribution:x[1]"] == 0
    assert values_of(watcher, metrics.DRIFT_LOG_EVIDENCE)["m", "1", "attribution:x[1]"] >= 0
    column = asyncio.run(watcher.monitoring.column("m", "1", "attribution:x[0]"))
    assert (column["scope"], column["column"]["state"], column["moments"]["mean"] > 1) == ("gateway", "drift", True)
    with pytest.raises(NotFound, match="no column 'attribution:z'"):
        asyncio.run(watcher.monitoring.column("m", "1", "attribution:z"))
    watcher.monitoring.close()
    watcher.open()
    assert importance(watcher)["drifting"] == 1
    assert send(watcher, 80, factor=0.2) == []
    assert importance(watcher)["rows"] > LEARNED_ROWS


def test_attributions_against_another_reference_do_not_count(watcher: Watcher) -> None:
    watcher.monitoring.gathered(message_of(watcher, 8, digest="sha256:other"))
    assert importance(watcher)["problem"] == attributions.NO_ROWS
    send(watcher, 16)
    watcher.give(trained(seed=1))
    watcher.world.clock.now += 1
    assert watcher.monitoring._attributions.evaluate() == []
    assert importance(watcher)["problem"] == attributions.NO_ROWS


def test_what_is_explained_otherwise_begins_anew(watcher: Watcher) -> None:
    send(watcher, 16)
    watcher.monitoring.gathered(message_of(watcher, 8, method="linear"))
    assert (importance(watcher)["rows"], importance(watcher)["method"]) == (8, "linear")


def test_a_reason_for_no_attributions_is_shown_until_there_are_some(watcher: Watcher) -> None:
    watcher.monitoring.gathered(message_of(watcher, 0, problem="there is no exact explanation: it is deep"))
    assert importance(watcher)["problem"] == "there is no exact explanation: it is deep"
    send(watcher, 8)
    assert "problem" not in importance(watcher)


@pytest.mark.parametrize("text", ["", "[]", "[[1]]", '[["m", "1", {}]]'])
def test_a_state_that_cannot_be_read_is_none(watcher: Watcher, text: str) -> None:
    (watcher.folder / "attributions.json").write_text(text)
    watcher.open()
    assert importance(watcher)["problem"] == attributions.NO_ROWS


def test_before_the_first_desired_state_nothing_is_forgotten(watcher: Watcher) -> None:
    send(watcher, LEARNED_ROWS + 80)
    own = watcher.monitoring._attributions
    own.write()
    terms, file = watcher.monitoring._terms, watcher.folder / "attributions.json"
    successor = AttributionDrift(terms, lambda _: 0.0, file, watcher.world.clock)
    before = successor.document(("m", "1"))
    watcher.fleet.desired = Desired(1, ())
    assert successor.evaluate() == []
    assert before["rows"] == LEARNED_ROWS + 80 and successor.document(("m", "1"))["rows"] == before["rows"]


def test_the_monitor_document_and_its_text_have_drifting_attributions_among_all_tests(watcher: Watcher) -> None:
    send(watcher, LEARNED_ROWS)
    watcher.send(trained(), 400)
    send(watcher, 1200, factor=0.2)
    document = asyncio.run(watcher.monitoring.document("m", "1"))
    assert document["multiplicity"]["tests"] == {"drift": 6, "quality": 3, "slices": 0, "attributions": 3}
    assert document["log_e_threshold"] == pytest.approx(np.log(100_000 / 0.80), abs=1e-3)
    shown = StringIO()
    Console(file=shown, width=200).print(render("m", document))
    assert "attribution:x[0]" in shown.getvalue() and "attribution:x[1]" not in shown.getvalue()
    assert "3 for attributions" in shown.getvalue()
