"""Makes the stored models of test_exports.py, with the values of the `shap` library as an oracle. Run by hand:

    python -m venv /tmp/exports && /tmp/exports/bin/pip install catboost==1.2.10 lightgbm==4.7.0 onnxmltools==1.16.0 \
        protobuf==6.33.6 scikit-learn==1.9.1 shap==0.51.0 skl2onnx==1.20.0 xgboost-cpu==3.2.0
    /tmp/exports/bin/python tests/unit/explain/make_exports.py

The stored files come from these versions. The libraries are too large for the development set.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import catboost
import lightgbm
import numpy as np
import onnx
import onnxmltools
import shap
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn import ensemble, tree
from sklearn.datasets import make_classification, make_regression

FOLDER = Path(__file__).parent / "exports"
FEATURES = 7
BACKGROUND = 10
CAT = {"iterations": 6, "depth": 3, "verbose": False, "allow_writing_files": False, "random_seed": 0}
XGB = {"n_estimators": 6, "max_depth": 3, "random_state": 0}
LGB = {"n_estimators": 6, "num_leaves": 8, "verbose": -1, "random_state": 0}
SKL = {"random_state": 0}

Rows = np.ndarray[Any, np.dtype[np.float32]]


def classes(count: int) -> tuple[Rows, Any]:
    rows, labels = make_classification(400, FEATURES, n_informative=6, n_redundant=0, n_classes=count, random_state=1)
    return rows.astype(np.float32), labels


def numbers() -> tuple[Rows, Any]:
    rows, targets = make_regression(400, FEATURES, random_state=1)
    return rows.astype(np.float32), targets / 100


def counts() -> tuple[Rows, Any]:
    rows, targets = numbers()
    return rows, np.abs(targets).round()


def with_gaps(rows: Rows) -> Rows:
    gaps = np.random.default_rng(2).random(rows.shape) < 0.15
    return np.where(gaps, np.float32("nan"), rows)


def binary() -> tuple[Rows, Any]:
    return classes(2)


def three() -> tuple[Rows, Any]:
    return classes(3)


def gaps() -> tuple[Rows, Any]:
    rows, labels = classes(2)
    return with_gaps(rows), labels


def number_gaps() -> tuple[Rows, Any]:
    rows, targets = numbers()
    return with_gaps(rows), targets


def categories() -> tuple[Rows, Any]:
    rows, labels = classes(2)
    rows[:, 0] = np.random.default_rng(3).integers(0, 7, len(rows))
    return rows, np.where(np.isin(rows[:, 0], [1, 3, 6]), labels, 1 - labels)


def by_sklearn(model: Any, rows: Rows) -> Any:
    options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
    return to_onnx(model, rows[:1], target_opset={"": 18, "ai.onnx.ml": 3}, options=options)


def by_tools(convert: Callable[..., onnx.ModelProto]) -> Callable[[Any, Rows], onnx.ModelProto]:
    return lambda model, _: convert(model, initial_types=[("x", FloatTensorType([None, FEATURES]))], target_opset=15)


def by_catboost(model: Any, _: Rows) -> onnx.ModelProto:
    with TemporaryDirectory() as folder:
        model.save_model(f"{folder}/model.onnx", format="onnx")
        return onnx.load(f"{folder}/model.onnx")


XGBOOST, LIGHTGBM = by_tools(onnxmltools.convert_xgboost), by_tools(onnxmltools.convert_lightgbm)
MODELS: dict[str, tuple[Any, Callable[[], tuple[Rows, Any]], Any]] = {
    "sklearn_boosting": (ensemble.GradientBoostingClassifier(n_estimators=6, **SKL), binary, by_sklearn),
    "sklearn_boosting_three": (ensemble.GradientBoostingClassifier(n_estimators=3, **SKL), three, by_sklearn),
    "sklearn_boosting_numbers": (ensemble.GradientBoostingRegressor(n_estimators=6, **SKL), numbers, by_sklearn),
    "sklearn_forest": (ensemble.RandomForestClassifier(5, max_depth=5, **SKL), binary, by_sklearn),
    "sklearn_forest_three": (ensemble.RandomForestClassifier(4, max_depth=4, **SKL), three, by_sklearn),
    "sklearn_forest_numbers": (ensemble.RandomForestRegressor(5, max_depth=5, **SKL), numbers, by_sklearn),
    "sklearn_histogram": (
        ensemble.HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=8, **SKL),
        gaps,
        by_sklearn,
    ),
    "sklearn_histogram_numbers": (
        ensemble.HistGradientBoostingRegressor(max_iter=5, max_leaf_nodes=8, **SKL),
        number_gaps,
        by_sklearn,
    ),
    "sklearn_tree": (tree.DecisionTreeClassifier(max_depth=6, **SKL), three, by_sklearn),
    "sklearn_isolation": (ensemble.IsolationForest(n_estimators=2, max_samples=16, **SKL), binary, by_sklearn),
    "xgboost": (xgboost.XGBClassifier(**XGB), gaps, XGBOOST),
    "xgboost_three": (xgboost.XGBClassifier(**XGB), three, XGBOOST),
    "xgboost_numbers": (xgboost.XGBRegressor(**XGB), numbers, XGBOOST),
    "xgboost_counts": (xgboost.XGBRegressor(objective="count:poisson", **XGB), counts, XGBOOST),
    "lightgbm": (lightgbm.LGBMClassifier(**LGB), gaps, LIGHTGBM),
    "lightgbm_categories": (
        lightgbm.LGBMClassifier(categorical_feature=[0], min_data_per_group=5, cat_smooth=1, **LGB),
        categories,
        LIGHTGBM,
    ),
    "lightgbm_three": (lightgbm.LGBMClassifier(**LGB), three, LIGHTGBM),
    "lightgbm_numbers": (lightgbm.LGBMRegressor(**LGB), numbers, LIGHTGBM),
    "lightgbm_forest": (
        lightgbm.LGBMRegressor(boosting_type="rf", bagging_fraction=0.7, bagging_freq=1, **LGB),
        numbers,
        LIGHTGBM,
    ),
    "catboost": (catboost.CatBoostClassifier(**CAT), gaps, by_catboost),
    "catboost_three": (catboost.CatBoostClassifier(**CAT), three, by_catboost),
    "catboost_numbers": (catboost.CatBoostRegressor(**CAT), number_gaps, by_catboost),
}


NO_ORACLE = {"catboost_three", "lightgbm_categories", "lightgbm_forest", "sklearn_boosting_three", "sklearn_isolation"}
"""What shap does not explain: it crashes on the first, takes the categories of the second for numbers, scales the third
otherwise than the exporter, and refuses the fourth; the last one is not a sum of trees."""


def oracle(model: Any, rows: Rows, background: Rows) -> Any:
    """What shap says of the margin [rows, features(, outputs)]."""
    explainer = shap.TreeExplainer(model, background, feature_perturbation="interventional", model_output="raw")
    return np.asarray(explainer.shap_values(rows, check_additivity=False)).tolist()


def listed(rows: Rows) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in rows]


def make(name: str) -> None:
    model, data, convert = MODELS[name]
    rows, targets = data()
    model.fit(rows, targets)
    exported = convert(model, rows)
    (FOLDER / f"{name}.onnx").write_bytes(exported.SerializeToString())
    background, explained = rows[:BACKGROUND], rows[100:103]
    found: dict[str, Any] = {"background": listed(background), "rows": listed(explained), "shap": None}
    if name not in NO_ORACLE:
        found["shap"] = oracle(model, explained, background)
    (FOLDER / f"{name}.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for wanted in sys.argv[1:] or MODELS:
        make(wanted)
