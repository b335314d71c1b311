"""Stored rows are scored as each would be by itself, together where that is known to be the same."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.options import ModelOptions
from penstock.core.signature import Feeds
from penstock.core.tensors import Array
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.registry.admission import scoring
from penstock.registry.admission.scoring import BATCH, score
from tests.unit.engine.row_independence.cases import Case

ROWS = np.arange(2 * BATCH * 3, dtype=np.float32).reshape(-1, 3)


def saved(folder: Path, graph: str) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(Case("", graph, 17).model().SerializeToString())
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each run, once the model is loaded."""
    seen: list[int] = []

    def load(*arguments: Any) -> Model:
        loaded = engine.load(*arguments)

        def run(outputs: Sequence[str], feeds: Feeds, _: Any) -> list[Array]:
            seen.append(len(feeds["x"]))
            return loaded.run(feeds, outputs)

        model = Model(run, loaded.signature)
        model.batch_cost = loaded.batch_cost
        return model

    monkeypatch.setattr(scoring, "engine", SimpleNamespace(load=load))
    return seen


def test_independent_rows_share_runs(tmp_path: Path, runs: list[int]) -> None:
    graph = saved(tmp_path, "(float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }")
    assert np.array_equal(score(graph, ModelOptions(), {"x": ROWS})["y"], 2 * ROWS)
    assert runs == [BATCH, BATCH]


def test_rows_that_may_depend_on_each_other_are_scored_one_by_one(tmp_path: Path, runs: list[int]) -> None:
    graph = saved(tmp_path, "(float[N, 3] x) => (float[N, 3] y) { top = ReduceMax<keepdims = 0>(x) y = Sub(x, top) }")
    expected = ROWS - ROWS.max(axis=1, keepdims=True)
    assert np.array_equal(score(graph, ModelOptions(), {"x": ROWS})["y"], expected)
    assert set(runs) == {1}


def test_rows_need_an_axis(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the first axis of its inputs is not rows"):
        score(saved(tmp_path, "(float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }"), ModelOptions(), {"x": ROWS})
