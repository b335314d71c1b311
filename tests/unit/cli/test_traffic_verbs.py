"""What the verbs of traffic make of their arguments, and how a rollout is drawn."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import typer
from rich.console import Console

from penstock.cli.rollout import _draw_steps, _parse_guard, _step, render
from penstock.cli.route import _parse_rule, draw_bar, parse_weights
from penstock.core.rollouts.documents import rollout_document
from penstock.core.rollouts.gates import RolloutStep
from penstock.core.rollouts.guard_spec import NAMES, GuardSpec, parse_guard
from penstock.core.rollouts.rollout import start_rollout
from penstock.core.rollouts.spec import RolloutSpec
from tests.unit.cli.conftest import Result


def test_weights_are_parsed() -> None:
    assert parse_weights("1=9500, 2=500", "--split") == {"1": 9500, "2": 500}
    for wrong in ("1", "1=", "=3", "1=x", "1=1.5", "1=-3"):
        with pytest.raises(typer.Exit) as ended:
            parse_weights(wrong, "--split")
        assert ended.value.exit_code == 2


@pytest.mark.parametrize(
    ("stated", "rule"),
    [
        ("header:x-canary=always->2", {"header": "x-canary", "equals": "always", "version": "2"}),
        ("header:x=a=b->c->1.0", {"header": "x", "equals": "a=b->c", "version": "1.0"}),
    ],
)
def test_rules_are_parsed(stated: str, rule: dict[str, str]) -> None:
    assert _parse_rule(stated) == rule


@pytest.mark.parametrize("stated", ["x=1->2", "header:x->2", "header:x=1", ""])
def test_malformed_rules_are_refused(stated: str) -> None:
    with pytest.raises(typer.Exit) as ended:
        _parse_rule(stated)
    assert ended.value.exit_code == 2


def test_guards_and_steps() -> None:
    assert _parse_guard("errors") == {"metric": "errors"}
    assert _parse_guard("latency:1.5") == {"metric": "latency", "max_ratio": 1.5}
    assert _parse_guard("outputs:0.2") == {"metric": "outputs", "max": 0.2}
    assert _parse_guard("quality:0.2") == {"metric": "quality", "max_increase": 0.2}
    assert _step("500") == 500
    assert _step("500!") == {"weight": 500, "approval": True}
    asked = {"metric": "promql", "query": "up", "min": 1}
    assert _parse_guard(json.dumps(asked)) == asked
    for wrong in ("latency:much", '{"metric"'):
        with pytest.raises(typer.Exit):
            _parse_guard(wrong)
    with pytest.raises(typer.Exit):
        _step("5 %")


@pytest.mark.parametrize("metric", [name for name in NAMES if name != "promql"])
def test_every_guard_takes_its_limit(metric: str) -> None:
    assert parse_guard(_parse_guard(f"{metric}:1")).limit == 1.0


@pytest.mark.parametrize(
    ("steps", "hold_back", "drawn"),
    [
        ((500, 10_000), 500, "steps 5 % 95 % promotion (the control keeps 5 % until promotion)"),
        ((500, 10_000), 2000, "steps 5 % 80 % promotion (the control keeps 20 % until promotion)"),
        ((500, 10_000), 0, "steps 5 % 100 % promotion"),
        ((500, 5000), 500, "steps 5 % 50 % promotion"),
    ],
)
def test_steps_are_drawn_with_the_weights_that_they_have(steps: tuple[int, ...], hold_back: int, drawn: str) -> None:
    spec = RolloutSpec("2", "1", steps=tuple(map(RolloutStep, steps)), hold_back=hold_back)
    assert _draw_steps(rollout_document(start_rollout(spec, 0.0))).plain == drawn


def test_bars_show_shares() -> None:
    assert draw_bar(0.0, 10) == ""
    assert draw_bar(0.5, 10) == "█" * 5
    assert draw_bar(1.0, 10) == "█" * 10


@pytest.mark.parametrize("width", [80, 140])
def test_a_rollout_is_drawn_with_its_weights_evidence_and_what_is_missing(width: int) -> None:
    spec = RolloutSpec("2", "1", guards=(GuardSpec("errors", 0.02), GuardSpec("disagreement", 0.02)), shadow=50.0)
    document: dict[str, Any] = json.loads(json.dumps(rollout_document(start_rollout(spec, 0.0))))
    document |= {"id": "abc", "model": "m", "created_at": "2026-11-21T08:00:00+00:00", "created_by": "ann"}
    document |= {"needed": 321, "needed_seconds": 12.4, "progress": ["at 1 %", "errors: passes"]}
    document["evidence"]["errors"] |= {"verdict": "pass", "log_e_pass": 9.0}
    document["evidence"]["disagreement"] |= {"verdict": "fail", "log_e": 9.0, "effect": 0.25}
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(document))
    text = console.export_text()
    for word in (
        "1 to 2",
        "running",
        "shadow",
        "95 %",
        "errors",
        "pass",
        "fail",
        "0.25",
        "errors: passes",
        "321 more canary requests until a decision, 12 s",
    ):
        assert word in text


def test_a_candidate_is_approved_or_refused_but_not_both(penstock: Callable[..., Result]) -> None:
    result = penstock("retrain", "m", "--approve", "2", "--refuse", "3")
    assert result.code == 2
    assert "only one of" in result.err
