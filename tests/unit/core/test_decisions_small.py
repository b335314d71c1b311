"""Small decisions of routes, rollouts, exams, rules and statistics: what they know and what follows."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batching import BatchSharing
from penstock.core.bins import SMALL_NUMBERS, CategoricalBinFinder, categorical_bins, numeric_bins
from penstock.core.desired import ReadyState as VersionState
from penstock.core.desired import VersionStatus, able_versions
from penstock.core.errors import InvalidInput
from penstock.core.gates import Exam, ExamScores, HoldoutGate, check_exam
from penstock.core.labels import HTTP_STATUS, OUTCOMES, code_label, is_attributed
from penstock.core.lineage import card_features
from penstock.core.live_references import Contribution, GatheringState
from penstock.core.rollouts.documents import rollout_document
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState, observe
from penstock.core.rollouts.guard_spec import GuardSpec, limit_word, parse_guard
from penstock.core.rollouts.guards import GuardVerdict, describe_evidence, find_effect
from penstock.core.rollouts.progress import describe_progress
from penstock.core.rollouts.rollout import Rollout, RolloutState, note_in_place, note_losses, note_ready, start_rollout
from penstock.core.rollouts.spec import parse_spec, with_objectives
from penstock.core.rollouts.waiting import waiting_inside
from penstock.core.routing import (
    POINTS,
    RouteSpec,
    SplitTable,
    choose_substitute,
    default_version,
    parse_route,
    resolve_split,
)
from penstock.core.row_shares import RowAmount
from penstock.core.statistics.change_detection import DAY_S, MIN_ONSET_PROBABILITY, ChangeDetector, onset_probability
from penstock.core.statistics.paired_comparison import Advantage
from penstock.core.triggers.conditions import Condition
from penstock.core.triggers.reachability import MonitoringCoverage, find_unreachable
from penstock.core.triggers.rules import RuleAction, RuleOutcome, Trigger
from penstock.core.triggers.state import RuleMemory, RuleState, with_request, without_request, without_schedule_times

# Routes.

SPLIT = parse_route({"split": {"1": 7000, "2": 3000}}, champion="1")


@pytest.mark.parametrize(
    ("able", "instead", "points"),
    [
        ({"1", "2"}, "1", {"1": 7000, "2": 3000}),
        ({"1"}, "1", {"1": POINTS, "2": 0}),
        ({"2", "3"}, "2", {"1": 0, "2": POINTS}),
        ({"3"}, None, {"1": 0, "2": 0, "3": POINTS}),
        (set(), None, {"1": 0, "2": 0}),
    ],
)
def test_versions_that_cannot_answer_give_their_points_to_one_that_can(
    able: set[str], instead: str | None, points: dict[str, int]
) -> None:
    assert choose_substitute(SPLIT, able) == instead
    assert resolve_split(SPLIT, "1", able) == points


@pytest.mark.parametrize(
    ("champion", "able", "version"),
    [("1", {"1", "2"}, "1"), ("1", {"2", "10"}, "10"), (None, {"2"}, "2"), ("1", (), None)],
)
def test_the_champion_answers_without_a_route(champion: str | None, able: set[str], version: str | None) -> None:
    assert default_version(champion, able) == version


def test_a_hash_finds_who_its_value_finds() -> None:
    points = SplitTable("m", SPLIT, {"1": "a", "2": "b"})
    values = [str(number).encode() for number in range(200)]
    assert [points.at(points.hash_value(value)) for value in values] == [points.pick(value) for value in values]
    assert {points.pick(value) for value in values} == {"a", "b"}
    whole = SplitTable("m", parse_route({"split": {"1": POINTS}}), {"1": "a"})
    assert (whole.pick(None), whole.at(7)) == ("a", "a")


STATES = {"1": VersionState.READY, "2": VersionState.LOADING, "3": VersionState.UNAVAILABLE}


@pytest.mark.parametrize(
    ("known", "route", "champion", "able"),
    [
        ("123", None, None, {"1"}),
        ("123", SPLIT, None, {"1", "2"}),
        ("123", None, "2", {"1", "2"}),
        ("123", None, "3", {"1"}),
        ("23", None, None, {"2"}),
        ("3", None, "3", set()),
    ],
)
def test_versions_that_answer_are_ready_or_were_chosen(
    known: str, route: RouteSpec | None, champion: str | None, able: set[str]
) -> None:
    assert able_versions([VersionStatus("m", item, STATES[item]) for item in known], route, champion) == able


# Rollouts.


def started(*guards: GuardSpec, **asked: Any) -> Rollout:
    spec = parse_spec({"to": "2", **asked}, "1")
    return start_rollout(replace(spec, guards=guards or spec.guards), 0.0)


def test_a_rollout_notes_since_when_its_canary_does_not_answer() -> None:
    rollout = started()
    gone = note_ready(rollout, False, 5.0)
    assert (gone.unready_since, note_ready(gone, False, 9.0).unready_since) == (5.0, 5.0)
    assert note_ready(gone, True, 9.0) == rollout
    assert note_ready(rollout, True, 9.0) is rollout


def test_a_rollout_notes_its_weights_and_its_losses() -> None:
    rollout = started()
    assert not rollout.in_place
    assert note_in_place(rollout, False) is rollout
    assert note_in_place(rollout, True).in_place
    lost = note_losses(rollout, 2)
    assert (lost.losses, note_losses(lost, 1).losses) == (2, 2)
    assert any("workers that ended with its calls in hand: 2" in line for line in lines(lost))
    assert not any("workers that ended" in line for line in lines(rollout))


def lines(rollout: Rollout) -> list[str]:
    return [str(line) for line in describe_progress(rollout, 1.0)]


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        (RolloutState.RUNNING, False),
        (RolloutState.PROMOTED, False),
        (RolloutState.ROLLED_BACK, True),
        (RolloutState.INCONCLUSIVE, True),
    ],
)
def test_what_ended_without_promotion(state: RolloutState, ended: bool) -> None:
    assert replace(started(), state=state).ended_without_promotion is ended


def test_a_step_that_leaves_the_control_nothing_cannot_be_passed_by_comparison() -> None:
    held_back = parse_spec({"to": "2", "guards": ["errors", "latency"]}, "1")
    assert held_back.left_alone() == []
    whole = parse_spec({"to": "2", "guards": ["errors", "latency", "error_ratio"], "hold_back": 0}, "1")
    assert whole.left_alone() == ["errors", "latency"]
    with pytest.raises(InvalidInput, match="'hold_back' must be a whole number"):
        parse_spec({"to": "2", "hold_back": 0.5}, "1")


def test_objectives_add_absolute_guards_and_the_limit_of_errors() -> None:
    spec = parse_spec({"to": "2", "guards": ["errors", {"metric": "latency_p99", "max_ms": 9}]}, "1")
    found = with_objectives(spec, {"error_ratio": 0.01, "latency_p99_ms": 50.0})
    assert [(guard.metric, guard.limit, guard.objective) for guard in found.guards] == [
        ("errors", 0.0, 0.01),
        ("latency_p99", 9.0, 0.0),
        ("error_ratio", 0.01, 0.0),
    ]
    stated = parse_spec({"to": "2", "guards": [{"metric": "errors", "max_increase": 0.02}]}, "1")
    assert with_objectives(stated, {"error_ratio": 0.01}).guards[0] == stated.guards[0]
    assert with_objectives(spec, {}) == spec


@pytest.mark.parametrize(("metric", "word"), [("latency", "max_ratio"), ("latency_p99", "max_ms"), ("promql", None)])
def test_the_limit_of_a_guard_has_a_word(metric: str, word: str | None) -> None:
    assert limit_word(metric) == word


def test_a_guard_has_no_other_fields() -> None:
    with pytest.raises(InvalidInput, match="its only fields are 'metric' and 'max_ratio'"):
        parse_guard({"metric": "latency", "max": 2})


def test_a_query_s_effect_is_its_last_value_and_it_says_how_often_it_agreed() -> None:
    guard = GuardSpec("promql", query="up", least=1.0)
    state = GuardState()
    assert find_effect(guard, state) is None
    rollout = started(guard)
    assert any("no answer yet" in line for line in lines(rollout))
    for value in (0.0, 2.0, 3.0, math.nan):
        state = observe(guard, state, EvidenceBatch(values={"up": value}))
    assert (find_effect(guard, state), state.streak) == (3.0, 2)
    assert any("within its bounds 2 of 3 times" in line for line in lines(replace(rollout, guards=(state,))))


def test_absolute_guards_count_the_canary_alone() -> None:
    guard = GuardSpec("latency_p99", 100.0)
    assert observe(guard, GuardState(), EvidenceBatch()) == GuardState()
    rollout = started(guard)
    rollout = replace(rollout, waiting={"latency": ((3.0,), (4.0,))})
    evidence = rollout_document(rollout)["evidence"]["latency_p99"]
    assert evidence["n_control"] == 0


def test_labels_are_shown_with_their_interval_and_their_age() -> None:
    guard = GuardSpec("performance", 0.05)
    nothing = describe_evidence(guard, GuardState(), 0.01)
    assert nothing["interval"] == [-1.0, 1.0]
    assert nothing["label_delay_seconds"] is None


def test_outside_is_asked_when_nothing_inside_is_missing() -> None:
    rollout = started(GuardSpec("errors"), steps=[{"weight": 10, "min_requests": 50}], min_step_seconds=10)
    passed = {"errors": GuardVerdict.PASS}
    enough = replace(rollout, requests=50)
    assert not waiting_inside(enough, passed, 11.0)
    assert waiting_inside(enough, passed, 9.0)
    assert waiting_inside(enough, {"errors": GuardVerdict.UNDECIDED}, 11.0)
    assert waiting_inside(rollout, passed, 11.0)


# Exams.

AHEAD = Advantage(0.05, 0.02, 0.1, rows=40)


@pytest.mark.parametrize(
    ("asked", "exam", "reason"),
    [
        (HoldoutGate("accuracy"), Exam(ExamScores(200, 0.9, 0.8), advantage=AHEAD), ""),
        (
            HoldoutGate("accuracy", by=0.03),
            Exam(ExamScores(200, 0.9, 0.8), advantage=AHEAD),
            "40 rows answered differently",
        ),
        (
            HoldoutGate("accuracy", by=0.03),
            Exam(ExamScores(200, 0.9, 0.8), advantage=replace(AHEAD, rows=None)),
            "candidate 1)",
        ),
        (HoldoutGate("accuracy"), Exam(ExamScores(200, 0.8, 0.8), same=True), ""),
        (HoldoutGate("accuracy", by=0.01), Exam(ExamScores(200, 0.8, 0.8), same=True), "a margin of 0.01 is required"),
        (HoldoutGate("accuracy", by=0.01), Exam(ExamScores(200, 0.9, 0.8)), ""),
        (HoldoutGate("accuracy"), Exam(ExamScores(200, None, 0.8)), "cannot be computed"),
        (HoldoutGate("accuracy"), Exam(ExamScores(200, 0.9, None), broken=3), "a value that is not a number"),
        (
            HoldoutGate("accuracy", slice_by=0.1),
            Exam(ExamScores(200, 0.9, None), {"x=a": ExamScores(50, 0.7, 0.9)}),
            "the limit is a loss of 0.1",
        ),
        (
            HoldoutGate("accuracy", slice_by=0.1),
            Exam(ExamScores(200, 0.9, None), {"x=a": ExamScores(50, 0.85, 0.9)}),
            "",
        ),
        (HoldoutGate("accuracy", slice_by=0.1), Exam(ExamScores(200, 0.9, None), {"x=a": ExamScores(9, 0.1, 0.9)}), ""),
        (
            HoldoutGate("accuracy", slice_at_least=0.8),
            Exam(ExamScores(200, 0.9, None), {"x=a": ExamScores(50, 0.7, 0.7)}),
            "0.8 is required",
        ),
        (
            HoldoutGate("accuracy", noise=0.1, noise_by=0.05),
            Exam(ExamScores(200, 0.9, None), noised=0.8),
            "the limit is a loss of 0.05",
        ),
        (HoldoutGate(metric="mae"), Exam(ExamScores(200, 0.9, 0.8)), "its mae on 200 held-out rows is 0.9"),
    ],
)
def test_exams_are_scheduled_and_end(asked: HoldoutGate, exam: Exam, reason: str) -> None:
    found = check_exam(asked, exam)
    assert (reason in "; ".join(found)) if reason else found == []


# Rules.


def leaf(word: str, **values: Any) -> Condition:
    return Condition(word, values)


def test_a_rule_that_denies_what_always_holds_never_fires() -> None:
    always = Condition("all", parts=(leaf("age", days=0), Condition("any", parts=(leaf("labels", new_at_least=0),))))
    (fault,) = find_unreachable([Trigger("t", Condition("not", parts=(always,)))], MonitoringCoverage())
    assert "what it denies always holds" in fault
    sometimes = Condition("all", parts=(leaf("age", days=0), leaf("labels", new_at_least=1)))
    assert find_unreachable([Trigger("t", Condition("not", parts=(sometimes,)))], MonitoringCoverage()) == []


def test_estimates_rest_on_rows_that_are_counted() -> None:
    values = {
        "metric": "accuracy",
        "below": 0.9,
        "above": None,
        "fallen_by": None,
        "min_labels": 1,
        "source": "estimated",
    }
    (fault,) = find_unreachable([Trigger("t", leaf("performance", **values))], MonitoringCoverage(rows=False))
    assert "no row is counted with 'monitor.sample' 0" in fault


FLIGHT = ["2", 5.0, "e1"]


@pytest.mark.parametrize(
    ("values", "event", "after"),
    [
        (
            {"in_flight": FLIGHT, "approved": ["3"], "refused": {"4": "too old"}},
            "e1",
            {"in_flight": None, "approved": [], "refused": {}, "failed": FLIGHT},
        ),
        ({"in_flight": FLIGHT}, "e2", None),
        ({"in_flight": None}, "e1", None),
        ({}, "e1", None),
    ],
)
def test_a_request_fails_with_its_own_event(values: dict[str, Any], event: str, after: dict[str, Any] | None) -> None:
    assert without_request(values, event) == after


@pytest.mark.parametrize(
    ("values", "after"),
    [
        ({"failed": FLIGHT, "in_flight": None}, {"failed": None, "in_flight": FLIGHT}),
        ({"failed": FLIGHT, "in_flight": ["3", 9.0, "e3"]}, None),
        ({"failed": ["2", 5.0, "e2"]}, None),
        ({}, None),
    ],
)
def test_a_failed_request_is_under_way_again(values: dict[str, Any], after: dict[str, Any] | None) -> None:
    assert with_request(values, {"e1"}) == after


def test_a_state_without_the_times_of_looks() -> None:
    state = RuleState(rules={"t": RuleMemory(looked=9.0, asked=3.0)}, requests=(3.0,))
    assert without_schedule_times(state) == RuleState(rules={"t": RuleMemory(asked=3.0)}, requests=(3.0,))


@pytest.mark.parametrize("outcome", list(RuleOutcome))
def test_only_requests_and_escalations_are_sent(outcome: RuleOutcome) -> None:
    action = RuleAction(Trigger("t", leaf("age", days=1)), outcome, 0.0, 1, ())
    assert action.sends is (outcome in (RuleOutcome.REQUESTED, RuleOutcome.ESCALATED))


# Outcomes.


@pytest.mark.parametrize(
    ("outcome", "before", "during"),
    [("internal", True, True), ("not_ready", True, True), ("invalid", False, True), ("cancelled", False, False)],
)
def test_a_version_answers_for_what_it_did(outcome: str, before: bool, during: bool) -> None:
    assert (is_attributed(outcome, False), is_attributed(outcome, True)) == (before, during)


def test_every_outcome_has_a_code_in_each_protocol() -> None:
    assert [code_label("rest", outcome) for outcome in OUTCOMES] == [str(HTTP_STATUS[outcome]) for outcome in OUTCOMES]
    assert all(code_label("grpc", outcome).isupper() or code_label("grpc", outcome) == "OK" for outcome in OUTCOMES)


# Columns.


def test_frequent_numbers_have_bins_of_their_own() -> None:
    values = np.concatenate([np.zeros(500), np.linspace(1, 100, 500)])
    bins = numeric_bins("x", values)
    assert "0" in bins.labels()
    assert [bins.labels()[place] for place in bins.constants] == ["0"]
    assert bins.public_labels() == bins.labels()
    assert numeric_bins("y", np.array([3.0])).constants == ()  # it is nothing else


def test_labels_with_personal_texts_are_not_public() -> None:
    bins = categorical_bins("c", ["a", "b", "a"])
    assert bins.public_labels() == ["value 0", "value 1", "(rest)", "(unseen)", "(missing)"]
    assert bins.labels()[:2] == ["a", "b"]


@given(st.lists(st.integers(-5, SMALL_NUMBERS + 5), max_size=20), st.sampled_from(["i8", "u2", "i2"]))
def test_numbers_as_labels_have_the_places_of_their_texts(values: list[int], dtype: str) -> None:
    places = CategoricalBinFinder(categorical_bins("c", [1, 2, 2, 1023, 1024]))
    numbers = np.array(values).astype(dtype)
    assert places(numbers).tolist() == places([str(value) for value in numbers.tolist()]).tolist()


# Statistics.


@pytest.mark.parametrize(
    ("rows", "passed_s", "daily", "probability"),
    [
        (10, 1.0, 0.0, 1.0),
        (1, DAY_S, 1.0, 1.0),
        (1000, DAY_S / 100, 1.0, 0.001),
        (10, -5.0, 1.0, MIN_ONSET_PROBABILITY),
        (0, 0.0, 1.0, MIN_ONSET_PROBABILITY),
    ],
)
def test_changes_begin_as_rarely_as_false_alarms_are_allowed(
    rows: int, passed_s: float, daily: float, probability: float
) -> None:
    assert onset_probability(rows, passed_s, 100.0, daily) == pytest.approx(probability)


def test_windows_that_are_like_their_reference_have_no_distance() -> None:
    detector = ChangeDetector([np.array([0.5, 0.5]), np.array([0.2, 0.3, 0.5])], [0.0, 0.0])
    windows = np.array([[500.0, 500.0, 0.0], [2000.0, 3000.0, 5000.0]])
    psi, js = detector.distances(windows)
    assert max(*psi, *js) < 0.03
    psi, js = detector.distances(np.array([[1000.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert psi[0] > 1
    assert 0.4 < js[0] < 1
    assert (psi[1], js[1]) == (0.0, 0.0)


# Values.


@pytest.mark.parametrize(
    ("card", "features"),
    [
        ({"features": {"x": {}, "y": 1, 3: 0}}, ("x", "y")),
        ({"features": ["y", "x", 3]}, ("y", "x")),
        ({}, ()),
        ("card", ()),
        (None, ()),
    ],
)
def test_a_card_names_features_in_its_order(card: Any, features: tuple[str, ...]) -> None:
    assert card_features(card) == features


def test_a_gateway_s_rows_are_taken_away() -> None:
    gathering = GatheringState({"a": Contribution(1, 2), "b": Contribution(3, 4)}, {}, 0.0)
    assert gathering.without("a").contributions == {"b": Contribution(3, 4)}
    assert gathering.without("c") == gathering


def test_amounts_add_and_subtract() -> None:
    assert RowAmount(3, 50) + RowAmount(1, 5) - RowAmount(1, 5) == RowAmount(3, 50)


@pytest.mark.parametrize(("shared", "text"), [(True, "requests share runs: x"), (False, "every request runs alone: x")])
def test_what_a_graph_proves_in_one_sentence(shared: bool, text: str) -> None:
    assert BatchSharing(shared, "x").text == text
