"""Models as scikit-learn, XGBoost, LightGBM and CatBoost export them: equal to Shapley values by definition through the
runtime, and to those of the `shap` library.

The models are stored (``make_exports.py``), because the libraries are large.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from penstock.explain.budgets import ExplainOptions
from penstock.explain.graphs import read_exact_model
from penstock.explain.methods import explain_steps
from penstock.explain.nodes import NotExact
from tests.explained import Floats, drive, shapley_values
from tests.unit.explain.runtime import graph_of, runner, without_link

EXPORTS = Path(__file__).parent / "exports"
NAMES = sorted(file.stem for file in EXPORTS.glob("*.onnx"))
MARGINS = {"sklearn_boosting", "sklearn_boosting_three", "sklearn_histogram", "xgboost", "xgboost_counts"}
MARGINS |= {"xgboost_three", "lightgbm", "lightgbm_categories", "lightgbm_three", "catboost", "catboost_three"}


def load(name: str) -> tuple[onnx.ModelProto, Floats, Floats, Any]:
    """The model, explained rows, the background, and the values of shap."""
    stored = json.loads((EXPORTS / f"{name}.json").read_text())
    rows, background = (np.array(stored[key], dtype=np.float64) for key in ("rows", "background"))
    return onnx.load(EXPORTS / f"{name}.onnx"), rows, background, stored["shap"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sklearn_isolation"])
def test_an_export_is_explained_exactly(name: str) -> None:
    model, rows, background, from_shap = load(name)
    output = model.graph.output[-1].name
    explainer = read_exact_model(graph_of(model), output).prepare(background)
    found = drive(explain_steps(explainer, rows, background, ExplainOptions()), runner(model, output))
    assert (found.method, found.exact, found.evaluated_rows, found.note) == (
        "tree",
        True,
        len(rows) + len(background),
        "",
    )
    assert found.scale == ("margin" if name in MARGINS else "value")
    margin = runner(without_link(model), output)
    factor = _factor_behind_an_exponential(model)
    for row, attributions in zip(rows, found.attributions, strict=True):
        expected = shapley_values(lambda many: margin(many) / factor, row, background)
        np.testing.assert_allclose(attributions, expected, atol=1e-6)
    np.testing.assert_allclose(found.base_value + found.attributions.sum(axis=1), found.prediction, atol=1e-12)
    if from_shap is not None:
        _compare_with_shap(found.attributions, np.array(from_shap))


def _factor_behind_an_exponential(model: onnx.ModelProto) -> float:
    """Exporters multiply e^margin with a mean; without the exponential it would be a factor of the margin."""
    if "Exp" not in {node.op_type for node in model.graph.node}:
        return 1.0
    (constant,) = model.graph.initializer
    return float(np.ravel(onnx.numpy_helper.to_array(constant))[0])


def _compare_with_shap(found: Floats, expected: Floats) -> None:
    """Of two classes it has the second one alone, where the library has one score."""
    if expected.ndim == 2:
        expected = expected[:, :, None]
    compared = found[:, :, -1:] if expected.shape[2] == 1 else found
    np.testing.assert_allclose(compared, expected, atol=1e-5)


def test_an_isolation_forest_is_sampled_or_enumerated() -> None:
    model, rows, background, _ = load("sklearn_isolation")
    output = model.graph.output[-1].name
    with pytest.raises(NotExact):
        read_exact_model(graph_of(model), output)
    run = runner(model, output)
    found = drive(explain_steps(None, rows, background, ExplainOptions()), run)
    assert (found.method, found.exact) == ("enumeration", True)
    np.testing.assert_allclose(found.attributions[0], shapley_values(run, rows[0], background), atol=1e-12)


@pytest.mark.parametrize("name", ["xgboost", "sklearn_forest_three"])
def test_sampled_orders_of_the_same_output_agree_within_their_error(name: str) -> None:
    model, rows, background, _ = load(name)
    output = model.graph.output[-1].name
    run = runner(model, output)
    options = ExplainOptions(method="permutation", max_rows=20_000, output_scale="probability")
    found = drive(explain_steps(None, rows, background, options), run)
    assert (found.method, found.exact, found.scale) == ("permutation", False, "probability")
    expected = np.stack([shapley_values(run, row, background) for row in rows])
    assert (np.abs(found.attributions - expected) <= 5 * found.error + 1e-6).all()
