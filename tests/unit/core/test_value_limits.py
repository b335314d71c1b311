"""Values of the core at their limits: tensors, bins, versions, references, the memory of rules, gates."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from penstock.core.bins import (
    SMALL_NUMBERS,
    CategoricalBinFinder,
    FeatureBins,
    FeatureKind,
    NumericBinFinder,
    categorical_bins,
    make_label,
    numeric_bins,
)
from penstock.core.errors import InvalidInput
from penstock.core.exams import ExamResult, Exams
from penstock.core.gates import CandidateFacts, Exam, ExamScores, Gates, HoldoutGate, check_exam, check_gates
from penstock.core.live_references import (
    Contribution,
    DiscardContributions,
    GatheringState,
    LearnReference,
    decide,
    draw_counts,
)
from penstock.core.statistics.paired_comparison import Advantage
from penstock.core.tensors import MAX_ELEMENTS, bytes_to_raw, element_count, from_raw, shape_text, unknown_datatype
from penstock.core.triggers.state import (
    SKEW_S,
    InFlight,
    RuleMemory,
    RulePhase,
    RuleState,
    decode_rule_state,
    encode_rule_state,
    limit_times,
)
from penstock.core.versions import sort_key

# Tensors.


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((), 1),
        ((0, -0), 0),
        ((1 << 40,), 1 << 40),
        ((1 << 20, 1 << 20), 1 << 40),
        ((1,) * 32, 1),
        ((0, 5), 0),
        ((5, 0), 0),
    ],
)
def test_shapes_that_are_possible(shape: tuple[int, ...], count: int) -> None:
    assert element_count("x", shape) == count


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        (((1 << 40) + 1,), "tensor 'x' has the impossible shape [...]"),
        ((2, 1 << 40), f"tensor 'x' has the impossible shape [2, {1 << 40}]"),
        ((0, -1), "tensor 'x' has the impossible shape [0, -1]"),
        ((1,) * 33, "tensor 'x' has rank 33; at most 32 dimensions are possible"),
    ],
)
def test_shapes_that_are_impossible(shape: tuple[int, ...], fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        element_count("x", shape)
    assert str(refused.value) == fault


def test_texts_about_tensors() -> None:
    assert shape_text((1,) * 8) == "[1, 1, 1, 1, 1, 1, 1, 1]"
    assert shape_text((1,) * 9) == "[1, 1, 1, 1, 1, 1, 1, 1, ...]"
    assert shape_text((-MAX_ELEMENTS, MAX_ELEMENTS, MAX_ELEMENTS + 1)) == f"[{-MAX_ELEMENTS}, {MAX_ELEMENTS}, ...]"
    assert str(unknown_datatype("x", "FP8")) == (
        "tensor 'x' has the unknown datatype 'FP8'; expected one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, "
        "INT32, INT64, FP16, FP32, FP64, BF16, BYTES"
    )


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "fault"),
    [
        ("INT32", (2,), b"1234567", "tensor 'x' of INT32 [2] needs 8 bytes, got 7"),
        ("BOOL", (2,), b"\0\2", "tensor 'x' of BOOL holds a byte other than 0 and 1"),
        ("BYTES", (2,), b"\0" * 7, "tensor 'x' of BYTES needs 2 elements, but its data ends after 7 bytes"),
        ("BYTES", (1,), b"\2\0\0\0a", "tensor 'x' of BYTES ends inside element 0 of 1"),
        ("BYTES", (1,), b"\1\0\0\0ab", "tensor 'x' of BYTES has 1 bytes after its last of 1 elements"),
        ("BYTES", (1,), b"\1\0\0\0\xff", "element 0 of tensor 'x' is not UTF-8; ONNX string tensors hold UTF-8 text"),
    ],
)
def test_raw_bytes_that_do_not_fit(datatype: str, shape: tuple[int, ...], raw: bytes, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_raw("x", datatype, shape, raw)
    assert str(refused.value) == fault


def test_raw_bytes_that_fit() -> None:
    assert from_raw("x", "BOOL", (2,), b"\0\1").tolist() == [False, True]
    assert from_raw("x", "BOOL", (0,), b"").tolist() == []
    texts = ["", "a", "\u00e9" * 3]
    assert from_raw("x", "BYTES", (3,), bytes_to_raw(np.array(texts, object))).tolist() == texts


# Bins.

NUMERIC = FeatureBins("n", FeatureKind.NUMERIC, (0.0, 1.0, float(np.nextafter(1.0, 2.0)), 2.0))
LABELS = FeatureBins("c", FeatureKind.CATEGORICAL, values=("a", "7"), known=("b", "8"))


def test_places_of_bins() -> None:
    assert (NUMERIC.width, NUMERIC.inner, NUMERIC.missing) == (8, slice(1, 4), 7)
    assert (NUMERIC.out_of_range, NUMERIC.infinite, NUMERIC.constants, NUMERIC.unseen) == ((0, 4), (5, 6), (2,), ())
    assert (LABELS.width, LABELS.inner, LABELS.missing) == (5, slice(0, 3), 4)
    assert (LABELS.out_of_range, LABELS.infinite, LABELS.unseen) == ((), (), (3,))
    assert NUMERIC.labels() == ["(below)", "0..1", "1", "1..2", "(above)", "-inf", "+inf", "(missing)"]
    assert NUMERIC.public_labels() == NUMERIC.labels()
    assert LABELS.labels() == ["a", "7", "(rest)", "(unseen)", "(missing)"]
    assert LABELS.public_labels() == ["value 0", "value 1", "(rest)", "(unseen)", "(missing)"]
    all_single = FeatureBins("n", FeatureKind.NUMERIC, (1.0, float(np.nextafter(1.0, 2.0))))
    assert all_single.constants == ()
    whole = FeatureBins("n", FeatureKind.NUMERIC, (0, 1))
    assert whole.constants == ()


@pytest.mark.parametrize("columns", [1, 2])
def test_places_of_numbers(columns: int) -> None:
    values = [-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, -math.inf, math.inf, math.nan]
    rows = np.repeat(np.array(values)[:, None], columns, axis=1)
    found = NumericBinFinder([NUMERIC] * columns)(rows)
    assert found[:, columns - 1].tolist() == [0, 1, 1, 2, 3, 4, 4, 5, 6, 7]
    assert NumericBinFinder([NUMERIC] * columns)(rows[:7], finite=True)[:, 0].tolist() == [0, 1, 1, 2, 3, 4, 4]
    mixed = NumericBinFinder([NUMERIC, numeric_bins("m", np.array([5.0, 6.0]))])
    assert mixed(np.array([[0.5, 5.2], [9.0, 9.0], [math.nan, math.inf]])).tolist() == [[1, 1], [4, 3], [7, 5]]


@pytest.mark.parametrize(
    ("values", "places"),
    [
        (["a", "b", "c", "", None, 7, 8, b"a", "nan", "NaN", "None"], [0, 2, 3, 4, 4, 1, 2, 0, 4, 4, 4]),
        (np.array([7, 8, 9]), [1, 2, 3]),
        (np.array([7, SMALL_NUMBERS - 1]), [1, 3]),
        (np.array([7, SMALL_NUMBERS]), [1, 3]),
        (np.array([-1, 7]), [3, 1]),
        (np.array([], np.int64), []),
        (np.array([7, 8], np.uint8), [1, 2]),
    ],
)
def test_places_of_labels(values: Any, places: list[int]) -> None:
    assert CategoricalBinFinder(LABELS)(values).tolist() == places


def test_labels_as_texts() -> None:
    assert [make_label(value) for value in (b"a\xff", 0, False, None, b"")] == ["a\ufffd", "0", "False", None, None]
    bins = categorical_bins("c", [value for value in range(2100) for _ in range(2 if value < 20 else 1)])
    assert bins.values == tuple(map(str, range(20)))
    assert len(bins.known) == 2000
    assert bins.known == tuple(sorted(map(str, range(20, 2100)))[:2000])


def test_bins_of_numbers() -> None:
    assert numeric_bins("n", np.array([math.nan, math.inf])).edges == (0.0, 1.0)
    few = numeric_bins("n", np.array([1.0, 2.0, 4.0, math.nan]))
    assert few.edges == (1.0, 1.5, 3.0, float(np.nextafter(4.0, 5.0)))
    assert len(numeric_bins("n", np.arange(16.0)).edges) == 17
    many = numeric_bins("n", np.arange(17.0), most=4)
    assert many.edges == (0.0, 4.0, 8.0, 12.0, float(np.nextafter(16.0, 17.0)))
    often = numeric_bins("n", np.array([0.0] * 5 + list(np.arange(1.0, 36.0))), most=4)
    assert float(np.nextafter(0.0, 1.0)) in often.edges
    seldom = numeric_bins("n", np.array([0.0] * 4 + list(np.arange(1.0, 37.0))), most=4)
    assert float(np.nextafter(0.0, 1.0)) not in seldom.edges


# Versions.


def test_versions_are_ordered_as_releases() -> None:
    ordered = ["1-rc.1", "1.0-rc.2", "1", "1.0", "1.0.0", "1.0.0+b", "1.0.1", "1.2", "1.10", "2", "10", "2025-01-02"]
    assert sorted(set(ordered), key=sort_key) == ordered
    assert sort_key("1.0.0")[0] == sort_key("1")[0] == ((0, 1, ""),)
    assert sort_key("0.0")[0] == ((0, 0, ""),)
    assert sort_key("0.1")[0] == ((0, 0, ""), (0, 1, ""))


# References.


def gathering(age_s: float, **serving: float) -> GatheringState:
    return GatheringState({"a": Contribution(10, 100)}, serving, age_s)


@pytest.mark.parametrize(
    ("state", "decided"),
    [
        (gathering(0.0), LearnReference({"a": 10})),
        (gathering(0.0, a=0.0), LearnReference({"a": 10})),
        (gathering(19.9, b=15.0), None),
        (gathering(20.0, b=15.0), LearnReference({"a": 10}, ("b",))),
        (gathering(0.0, b=15.1), LearnReference({"a": 10})),
        (replace(gathering(0.0), contributions={}), None),
        (replace(gathering(0.0), contributions={"a": Contribution(0, 5)}), DiscardContributions()),
        (replace(gathering(0.0), has_reference=True), DiscardContributions()),
    ],
)
def test_when_a_reference_is_made(state: GatheringState, decided: object) -> None:
    assert decide(state, 50) == decided


@pytest.mark.parametrize(
    ("contributions", "most", "drawn"),
    [
        ({"a": (100, 1), "b": (100, 1)}, 10, {"a": 5, "b": 5}),
        ({"a": (100, 3), "b": (100, 1)}, 8, {"a": 6, "b": 2}),
        ({"a": (2, 3), "b": (100, 1)}, 8, {"a": 2, "b": 6}),
        ({"a": (100, 2), "b": (100, 1)}, 10, {"a": 7, "b": 3}),
        ({"a": (100, 0), "b": (100, 1)}, 10, {"a": 5, "b": 5}),
        ({"a": (100, 9), "b": (0, 1)}, 10, {"a": 100}),
        ({"a": (5, 1), "b": (5, 1)}, 10, {"a": 5, "b": 5}),
        ({}, 10, {}),
    ],
)
def test_rows_are_drawn_by_requests(
    contributions: dict[str, tuple[int, int]], most: int, drawn: dict[str, int]
) -> None:
    assert draw_counts({name: Contribution(*item) for name, item in contributions.items()}, most) == drawn


# The memory of rules.

MEMORY = RuleMemory(RulePhase.FIRING, 5.0, 6.0, 1, "requested", 7.0, 8, {"accuracy": 0.9}, "3")
STATE = RuleState(
    {"r": MEMORY, "fresh": RuleMemory()},
    (1.0, 2.0),
    InFlight("3", 4.0, "e"),
    ("4",),
    Exams("3", 2, {"4": ExamResult("g", ("why",))}),
    InFlight("2", 3.0, "f"),
)


def test_the_memory_of_rules_survives_as_json_values() -> None:
    values = json.loads(json.dumps(encode_rule_state(STATE)))
    assert set(values) == {field.name for field in fields(RuleState)}
    back = decode_rule_state(values)
    assert back.rules["fresh"].asked == -1e18
    assert replace(back, rules={**back.rules, "fresh": RuleMemory()}) == STATE
    for name in values:
        less = decode_rule_state({key: value for key, value in values.items() if key != name})
        assert getattr(less, name) == getattr(RuleState(), name)
        assert replace(less, **{name: getattr(back, name)}) == back
    assert decode_rule_state({}) == RuleState()


@pytest.mark.parametrize("field", ["requests", "since", "asked", "in_flight", "failed"])
def test_times_to_come_are_now(field: str) -> None:
    """A clock that was set back wrote them; two clocks may be five seconds apart."""

    def at(time: float) -> RuleState:
        if field == "requests":
            return replace(STATE, requests=(1.0, time))
        if field in {"since", "asked"}:
            rule = replace(MEMORY, since=time) if field == "since" else replace(MEMORY, asked=time)
            return replace(STATE, rules={"r": rule})
        flight = InFlight("3", time, "e")
        return replace(STATE, in_flight=flight) if field == "in_flight" else replace(STATE, failed=flight)

    now = 50.0
    assert limit_times(at(now + SKEW_S), now) == at(now + SKEW_S)
    assert limit_times(at(now + SKEW_S + 0.1), now) == at(now)
    both = replace(at(now + 99), approved=("9",))
    assert limit_times(both, now) == replace(at(now), approved=("9",))


# Gates.


def facts(**cases: Any) -> CandidateFacts:
    return CandidateFacts(1, {}, cases)


def answered(sample: list[Any], shape: list[int], datatype: str = "FP32") -> CandidateFacts:
    output = {"name": "y", "sample": sample, "shape": shape, "datatype": datatype}
    return facts(probes={"cases": [{"inputs": "zeros", "outputs": [output]}]})


SANE = Gates(same_signature=False)
PROBABILITIES = answered([0.25, 0.75], [1, 2])


@pytest.mark.parametrize(
    ("sample", "shape", "datatype", "sane"),
    [
        ([0.5, 0.5], [1, 2], "FP32", True),
        ([0.5, 0.5], [1, 2], "FP64", True),
        ([-1e-6, 1 + 1e-6], [1, 2], "FP32", True),
        ([-2e-6, 1 + 2e-6], [1, 2], "FP32", False),
        ([0.5, 0.5009], [1, 2], "FP32", True),
        ([0.5, 0.502], [1, 2], "FP32", False),
        ([1.5, -0.5], [1, 2], "FP32", False),
        ([0, 1], [1, 2], "INT64", False),
    ],
)
def test_probabilities_stay_probabilities(sample: list[Any], shape: list[int], datatype: str, sane: bool) -> None:
    found = check_gates(SANE, answered(sample, shape, datatype), PROBABILITIES)
    said = "for zeros its output 'y' is not a probability; that of the version that answers is"
    assert found == ([] if sane else [said])


@pytest.mark.parametrize(
    ("own", "champion", "said"),
    [
        (answered(["nan"], [1]), None, ["for zeros its output 'y' contains a value that is not a number"]),
        (answered(["nan"], [1]), answered(["nan"], [1]), []),
        (answered(["text"], [1], "BYTES"), None, []),
        (answered([1.0], [1]), answered([1.0, 2.0], [2]), ["for zeros its output 'y' has the shape [1], not [2]"]),
        (answered([1.0], [1]), None, []),
        (answered([9.0], [1, 1]), answered([1.0], [1, 1]), []),
        (answered([9.0, 9.0], [2]), answered([0.5, 0.5], [2]), []),
        (answered([9.0, 9.0], [1, 3]), answered([0.5, 0.5], [1, 3]), []),
    ],
)
def test_answers_that_are_implausible(own: CandidateFacts, champion: CandidateFacts | None, said: list[str]) -> None:
    assert check_gates(SANE, own, champion) == said


ASKED = HoldoutGate("accuracy", 0.01, slice_least=30, slice_at_least=0.5, slice_by=0.1, noise=0.1, noise_by=0.05)
WHOLE = ExamScores(200, 0.9, 0.8)
AHEAD = Advantage(0.1, 0.02, 0.05, 30)
BEHIND = "its accuracy on 200 held-out rows is 0.9, the answering version's 0.8; a margin of 0.01 is required"
LOSS = "; the limit is a loss of 0.1"
DIFFERENTLY = ", 30 rows answered differently"


@pytest.mark.parametrize(
    ("exam", "said"),
    [
        (Exam(WHOLE, advantage=AHEAD), []),
        (Exam(WHOLE, advantage=replace(AHEAD, lower=0.01)), []),
        (
            Exam(WHOLE, advantage=replace(AHEAD, lower=0.0099), tries=3),
            [f"{BEHIND}, and it is certain to be ahead by 0.0099 only (at 95.00%, candidate 3{DIFFERENTLY})"],
        ),
        (
            Exam(WHOLE, advantage=Advantage(0.1, -0.5, 0.05)),
            [
                f"{BEHIND}, and it is certain to be ahead by -0.5000 only (at 95.00%, candidate 1)",
            ],
        ),
        (
            Exam(ExamScores(200, 0.8, 0.8), same=True),
            ["its accuracy on 200 held-out rows is 0.8, the answering version's 0.8; a margin of 0.01 is required"],
        ),
        (Exam(ExamScores(200, 0.81, 0.8)), []),
        (Exam(ExamScores(200, None, 0.8)), ["its accuracy cannot be computed from 200 held-out rows"]),
        (Exam(ExamScores(200, 0.1, None)), []),
        (Exam(WHOLE, broken=2), ["it answers 2 of 200 held-out rows with a value that is not a number"]),
        (Exam(WHOLE, noised=0.85), []),
        (
            Exam(WHOLE, noised=0.8499),
            ["with noise of 0.1 standard deviations its accuracy goes from 0.9 to 0.8499; the limit is a loss of 0.05"],
        ),
        (Exam(WHOLE, slices={"s": ExamScores(29, 0.1, 0.9)}), []),
        (Exam(WHOLE, slices={"s": ExamScores(30, 0.5, 0.6)}), []),
        (
            Exam(WHOLE, slices={"s": ExamScores(30, 0.499, 0.4)}),
            ["where s (30 held-out rows) its accuracy is 0.499; 0.5 is required"],
        ),
        (
            Exam(WHOLE, slices={"s": ExamScores(30, 0.6, 0.701)}),
            [f"where s (30 held-out rows) its accuracy is 0.6, the answering version's 0.701{LOSS}"],
        ),
        (Exam(WHOLE, slices={"s": ExamScores(30, None, 0.9), "t": ExamScores(30, 0.6, None)}), []),
    ],
)
def test_what_an_exam_asks(exam: Exam, said: list[str]) -> None:
    assert check_exam(ASKED, exam) == said


def test_less_is_better_for_errors() -> None:
    asked: Mapping[str, HoldoutGate] = {name: HoldoutGate(name, 0.1) for name in ("mae", "r2")}
    lower, higher = Exam(ExamScores(9, 0.5, 0.6)), Exam(ExamScores(9, 0.6, 0.5))
    assert check_exam(asked["mae"], lower) == check_exam(asked["r2"], higher) == []
    assert len(check_exam(asked["mae"], higher)) == len(check_exam(asked["r2"], lower)) == 1
    assert check_exam(replace(asked["r2"], by=0.0), Exam(ExamScores(9, 0.5, 0.5), same=True)) == []
