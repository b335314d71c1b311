"""The gates between a version and traffic: what each asks, who gains traffic, and what an operator may state."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.routing import POINTS, RouteSpec, RoutingRule, ShadowSpec
from penstock.core.version_gates import (
    Gate,
    GateResult,
    MetricBounds,
    VersionFacts,
    VersionGates,
    evaluate_gates,
    gaining_versions,
    parse_version_gates,
    refusal_text,
    withheld_by_default,
)

METADATA = {"card": {"summary": "s"}, "metrics": {"accuracy": 0.9}, "code_commit": "abcdef0"}
FACTS = VersionFacts(METADATA, ("ann",), "", ("bob",), must_be_signed=True)
GATES = VersionGates(1, ("summary",), ("code_commit",), {"accuracy": MetricBounds(0.9, 1.0)}, 1)


def test_a_version_that_has_everything_passes_every_gate() -> None:
    assert evaluate_gates(GATES, FACTS) == [GateResult(gate) for gate in Gate]
    assert refusal_text("1", evaluate_gates(GATES, FACTS)) == ""


def test_gates_that_are_not_asked_for_have_no_result() -> None:
    assert evaluate_gates(VersionGates(), replace(FACTS, must_be_signed=False)) == []


@pytest.mark.parametrize(
    ("facts", "gate", "reason"),
    [
        (replace(FACTS, signers=()), Gate.SIGNATURE, "it has 0 trusted signatures, and 1 are required"),
        (replace(FACTS, signature_reason="why"), Gate.SIGNATURE, "why"),
        (replace(FACTS, metadata={**METADATA, "card": {}}), Gate.CARD, "its card says nothing of 'summary'"),
        (replace(FACTS, metadata={**METADATA, "code_commit": ""}), Gate.PROVENANCE, "its metadata lacks 'code_commit'"),
        (
            replace(FACTS, metadata={**METADATA, "metrics": {}}),
            Gate.METRICS,
            "it was pushed without the metric 'accuracy'",
        ),
        (
            replace(FACTS, metadata={**METADATA, "metrics": {"accuracy": 0.8}}),
            Gate.METRICS,
            "its accuracy is 0.8; at least 0.9 is required",
        ),
        (
            replace(FACTS, metadata={**METADATA, "metrics": {"accuracy": 2}}),
            Gate.METRICS,
            "its accuracy is 2; at most 1 is allowed",
        ),
        (
            replace(FACTS, metadata={**METADATA, "metrics": {"accuracy": float("nan")}}),
            Gate.METRICS,
            "its accuracy is nan; at least 0.9 is required",
        ),
        (replace(FACTS, approvers=()), Gate.APPROVAL, "it has 0 approvals, and 1 are required"),
    ],
)
def test_each_gate_has_its_reason(facts: VersionFacts, gate: Gate, reason: str) -> None:
    failed = [result for result in evaluate_gates(GATES, facts) if not result.passed]
    assert failed == [GateResult(gate, reason)]
    assert refusal_text("1", failed) == f"version '1' does not pass its gates: {gate.value}: {reason}"
    assert failed[0].to_document() == {"gate": gate.value, "passed": False, "reason": reason}


def test_the_signatures_of_the_configuration_are_a_gate_without_a_policy() -> None:
    facts = VersionFacts(signature_reason="why", must_be_signed=True)
    assert evaluate_gates(VersionGates(), facts) == [GateResult(Gate.SIGNATURE, "why")]


def route(**split: int) -> RouteSpec:
    shares = {name.removeprefix("v"): weight for name, weight in split.items()}
    return RouteSpec(shares, stable=max(shares, key=lambda name: shares[name]))


@pytest.mark.parametrize(
    ("before", "answers", "after", "gaining"),
    [
        (None, "1", route(v1=9000, v2=1000), {"2"}),
        (None, None, route(v1=9000, v2=1000), {"1", "2"}),
        (route(v1=9000, v2=1000), "1", route(v1=5000, v2=5000), {"2"}),
        (route(v1=5000, v2=5000), "1", route(v1=10000), {"1"}),
        (route(v1=5000, v2=5000), "1", route(v1=5000, v2=5000), set()),
        (None, "1", RouteSpec({"1": POINTS}, rules=(RoutingRule("h", "v", "3"),), stable="1"), {"3"}),
        (None, "1", RouteSpec({"1": POINTS}, shadow=(ShadowSpec("3", 10),), stable="1"), {"3"}),
        (
            RouteSpec({"1": POINTS}, shadow=(ShadowSpec("3", 10),), stable="1"),
            "1",
            RouteSpec({"1": POINTS}, shadow=(ShadowSpec("3", 20),), stable="1"),
            {"3"},
        ),
        (None, "1", RouteSpec({"1": POINTS, "2": 0}, stable="2"), {"2"}),
        (route(v1=5000, v2=5000), "1", RouteSpec({"1": 5000, "2": 5000}, stable="2"), set()),
    ],
)
def test_a_version_that_gets_more_traffic_counts_as_gaining(
    before: RouteSpec | None, answers: str | None, after: RouteSpec, gaining: set[str]
) -> None:
    assert gaining_versions(before, answers, after) == gaining


@given(st.lists(st.integers(0, POINTS), min_size=2, max_size=2), st.booleans())
def test_an_unchanged_route_gives_no_version_more_traffic(cuts: list[int], known: bool) -> None:
    low, high = sorted(cuts)
    stays = RouteSpec({"1": low, "2": high - low, "3": POINTS - high}, stable="1")
    assert gaining_versions(stays, "1" if known else None, stays) == set()


def test_what_fails_and_has_no_traffic_answers_only_by_its_name() -> None:
    assert withheld_by_default(("1", "2", "3", "4"), route(v1=9000, v2=1000), ["3"]) == {"4"}
    assert withheld_by_default(("1", "2"), None, ["1"]) == {"2"}


def test_gates_are_read_as_they_are_stated() -> None:
    faults: list[str] = []
    stated = {
        "signatures": 1,
        "card": ["summary"],
        "provenance": ["code_commit"],
        "metrics": {"accuracy": {"at_least": 0.9, "at_most": 1.0}},
        "approvals": 1,
    }
    assert (parse_version_gates(stated, "gates", faults), faults) == (GATES, [])


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        ([], "'gates' must be an object"),
        ({"other": 1}, "'gates.other' is not a gate"),
        ({"signatures": True}, "'gates.signatures' must be a whole number from 0 to 16"),
        ({"approvals": 17}, "'gates.approvals' must be a whole number from 0 to 16"),
        ({"card": "summary"}, "'gates.card' must be a list of at most 64 names of fields"),
        ({"provenance": [1]}, "'gates.provenance' must be a list of at most 64 names of fields"),
        ({"metrics": []}, "'gates.metrics' must give at most 64 metrics their bounds"),
        ({"metrics": {"f1": {}}}, "'gates.metrics.f1' must have at_least or at_most, with numbers"),
        ({"metrics": {"f1": {"at_least": "0.9"}}}, "'gates.metrics.f1' must have at_least or at_most, with numbers"),
    ],
)
def test_every_fault_of_stated_gates_is_named(stated: Any, fault: str) -> None:
    faults: list[str] = []
    assert parse_version_gates(stated, "gates", faults) == VersionGates()
    assert faults == [fault]
