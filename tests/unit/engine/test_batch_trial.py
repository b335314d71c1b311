"""Whose calls may share a run: what graph and configuration say first, and then a trial with made-up rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from loadtests.graphs import find_repository
from loadtests.models import MODELS
from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.core.options import ModelOptions, TensorOptions
from penstock.engine import batch_trial
from penstock.engine.batch_trial import describe_difference
from penstock.engine.model import Model, load
from penstock.registry.admission.inspection import proof_of
from tests.unit.engine.row_independence.cases import Case

PROVEN = RowProof(True)
NOT_PROVEN = RowProof(False, "operator NonZero has a result whose shape depends on the data", "/a/b", "NonZero")
DOUBLED = "(float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }"


def loaded(folder: Path, graph: str, proof: RowProof, opset: int = 18, **options: Any) -> Model:
    path = folder / "model.onnx"
    path.write_bytes(Case("", graph, opset).model().SerializeToString())
    return load(path, ModelOptions(**options), 1, proof)


def test_a_graph_that_proves_it_shares_runs(tmp_path: Path) -> None:
    model = loaded(tmp_path, DOUBLED, PROVEN)
    assert model.batch_cost is not None
    assert model.sharing.text == "requests share runs: its graph proves that rows are independent, and a trial agreed"


@pytest.mark.parametrize("stated", [{}, {"max_batch_size": 8, "asks_for_batching": True}])
def test_without_a_proof_every_request_runs_alone_however_it_is_asked_for(
    tmp_path: Path, stated: dict[str, Any]
) -> None:
    model = loaded(tmp_path, DOUBLED, NOT_PROVEN, **stated)
    assert model.batch_cost is None
    assert model.sharing.text.startswith(f"every request runs alone: {NOT_PROVEN.reason}; if its rows are independent")
    assert 'parameters { key: "independent_rows" value: { string_value: "true" } }' in model.sharing.text
    assert loaded(tmp_path, DOUBLED, NOT_EXAMINED, **stated).batch_cost is None


def test_the_owners_word_takes_the_place_of_a_proof(tmp_path: Path) -> None:
    model = loaded(tmp_path, DOUBLED, NOT_PROVEN, independent_rows=True)
    assert model.batch_cost is not None
    assert model.sharing.reason == "its configuration says that rows are independent, and a trial agreed"


def test_the_owners_word_against_sharing_outweighs_a_proof(tmp_path: Path) -> None:
    model = loaded(tmp_path, DOUBLED, PROVEN, independent_rows=False)
    assert model.batch_cost is None
    assert model.sharing.text == "every request runs alone: its configuration says that rows depend on each other"


@pytest.mark.simulation
@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_load_tests_share_runs(name: str) -> None:
    find_repository(MODELS[name])
    model = load(MODELS[name].file, ModelOptions(), 1, proof_of(MODELS[name].file))
    too_long_here = model.sharing.reason == "its runs are too long to gain from sharing"
    assert model.sharing.shared or (name == "cnn" and too_long_here), model.sharing


NO_ROWS = "an output did not have one row for each row of the inputs"
OTHER_ROWS = "rows got different answers together than alone"


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("(float[N, 3] x) => (float[N, 3] y) { m = ReduceMax<axes = [0]>(x) y = Sub(x, m) }", OTHER_ROWS),
        # a rule that the whole run follows once a number in it is above 100; rows of equal size would not show it
        (
            """(float[N, 3] x) => (float[N, 3] y) <float many = {100}> {
                top = ReduceMax<keepdims = 0>(x) large = Greater(top, many) less = Div(x, many)
                y = Where(large, less, x)
            }""",
            f"{OTHER_ROWS} (numbers of mixed sizes)",
        ),
        ("(float[N, 3] x) => (float[M, 3] y) { y = Concat<axis = 0>(x, x) }", NO_ROWS),
        # answers that depend on others only where rows have more than one token
        (
            """(float[N, T] x) => (float[N, T] y) {
                rest = Slice<axes = [1], starts = [1], ends = [99]>(x) sum = ReduceSum<keepdims = 0>(rest)
                y = Add(x, sum)
            }""",
            f"{OTHER_ROWS} (longer rows)",
        ),
        # rows that are far below zero are left out, which rows of ordinary size do not show
        (
            """(float[N] x) => (float[M] y) <float least = {-200}>
            { kept = Greater(x, least) y = Compress<axis = 0>(x, kept) }""",
            None,
        ),
    ],
)
def test_a_trial_is_held_against_the_owners_word(tmp_path: Path, graph: str, reason: str | None) -> None:
    model = loaded(tmp_path, graph, NOT_PROVEN, 9, independent_rows=True, max_batch_size=8)
    assert model.batch_cost is None
    if reason is not None:
        assert model.sharing.reason == f"in a trial {reason}"


def test_the_owners_word_makes_no_rows(tmp_path: Path) -> None:
    proof = RowProof(False, "operator NonZero has a result whose shape depends on the data", rows_vary=True)
    model = loaded(tmp_path, DOUBLED, proof, independent_rows=True)
    assert model.batch_cost is None
    assert model.sharing.reason == f"an output need not have one row for each row of the inputs: {proof.reason}"


def test_what_cannot_be_joined_says_so(tmp_path: Path) -> None:
    assert (
        "free first dimension"
        in loaded(tmp_path, "(float[4] x) => (float[4] y) { y = Relu(x) }", PROVEN).sharing.reason
    )
    assert (
        loaded(tmp_path, DOUBLED, PROVEN, max_batch_size=1).sharing.reason
        == "its configuration states max_batch_size 1"
    )


def test_an_input_that_replaces_a_constant_is_not_part_of_the_proof(tmp_path: Path) -> None:
    case = Case("", "(float[N, 3] x) => (float[N, 3] y) <float[1, 3] w = {1, 2, 3}> { y = Add(x, w) }").model()
    case.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, ["M", 3]))
    (tmp_path / "model.onnx").write_bytes(case.SerializeToString())

    def with_inputs(*names: str) -> Model:
        inputs = tuple(TensorOptions(name, "FP32", (3,), optional=name == "w") for name in names)
        return load(tmp_path / "model.onnx", ModelOptions(max_batch_size=8, inputs=inputs), 1, PROVEN)

    assert with_inputs("x").batch_cost is not None
    assert with_inputs("x", "w").batch_cost is None
    assert with_inputs("x", "w").sharing.reason.startswith("input 'w' takes the place of a constant; ")


@pytest.mark.parametrize(
    ("takes_ns", "variants"), [(1_000_000, 3), (40_000_000, 2), (100_000_000, 1), (200_000_000, 0)]
)
def test_trials_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_ns: int, variants: int) -> None:
    """The first trial always takes place, others if there is time for them."""
    signature = loaded(tmp_path, DOUBLED, PROVEN).signature
    now, runs = [0], []

    def attempt(feeds: dict[str, Any]) -> list[Any]:
        now[0] += takes_ns
        runs.append(len(feeds["x"]))
        return [feeds["x"]]

    monkeypatch.setattr("penstock.engine.batch_trial.time.perf_counter_ns", lambda: now[0])
    monkeypatch.setattr("penstock.engine.warmup.median_run_ns", lambda run, _: run() and 1)
    batch_trial.run_trial(attempt, signature, 4)
    assert len(runs) == 5 + 5 * variants + 2  # four rows together and apart in each trial; two measurements


ROWS = [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])]
WHOLE = np.concatenate(ROWS)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda whole: whole, ""),
        (lambda whole: whole * (1 + 1e-4), ""),
        (lambda whole: whole * 1.01, OTHER_ROWS),
        (lambda whole: whole[::-1], OTHER_ROWS),
        (lambda whole: whole[:2], NO_ROWS),
        (lambda whole: np.concatenate((whole, whole)), NO_ROWS),
        (lambda whole: whole[:, :1], NO_ROWS),
        (lambda whole: whole[0], NO_ROWS),
        (lambda whole: np.array(7.0), NO_ROWS),
        (lambda whole: np.where(whole > 4, np.nan, whole), OTHER_ROWS),
    ],
)
def test_runs_are_compared_row_by_row(change: Callable[[Any], Any], difference: str) -> None:
    assert describe_difference([change(WHOLE)], [[part] for part in ROWS], [1, 2]) == difference


def test_parts_have_one_row_for_each_of_its_call() -> None:
    assert describe_difference([WHOLE], [[WHOLE[:2]], [WHOLE[2:]]], [1, 2]) == NO_ROWS
    assert describe_difference([np.array([np.nan, 1])], [[np.array([np.nan])], [np.array([1.0])]], [1, 1]) == ""
    texts = np.array(["a", "b"], object)
    assert describe_difference([texts], [[texts[:1]], [texts[1:]]], [1, 1]) == ""
    assert describe_difference([texts], [[texts[1:]], [texts[:1]]], [1, 1]) == OTHER_ROWS
