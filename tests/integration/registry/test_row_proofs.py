"""What scikit-learn's exporter writes: common pipelines are proven, and answer each row by itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import (
    cluster,
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.feature_extraction import text

from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from tests.unit.engine.row_independence.runs import apart, differs, together

ROWS = 60


def features() -> Any:
    return np.random.default_rng(5).normal(size=(ROWS, 4)).astype(np.float32)


def labels(rows: Any) -> Any:
    return (rows[:, 0] + rows[:, 1] > 0).astype(int) + (rows[:, 2] > 0.5)


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic regression": linear_model.LogisticRegression,
    "forest": lambda: ensemble.RandomForestClassifier(5, random_state=0),
    "boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=5),
    "histogram boosting": lambda: ensemble.HistGradientBoostingClassifier(max_iter=5),
    "bagging": lambda: ensemble.BaggingClassifier(n_estimators=3, random_state=0),
    "support vectors": svm.SVC,
    "perceptrons": lambda: neural_network.MLPClassifier((8,), max_iter=30, random_state=0),
    "naive Bayes": naive_bayes.GaussianNB,
    "tree": lambda: tree.DecisionTreeClassifier(random_state=0),
    "discriminant analysis": discriminant_analysis.LinearDiscriminantAnalysis,
    "stacking": lambda: ensemble.StackingClassifier(
        [
            ("a", linear_model.LogisticRegression()),
            ("b", tree.DecisionTreeClassifier(random_state=0)),
        ]
    ),
    "scaled": lambda: pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    "polynomials": lambda: pipeline.make_pipeline(
        preprocessing.MinMaxScaler(), preprocessing.PolynomialFeatures(2), linear_model.LogisticRegression()
    ),
    "quantiles": lambda: pipeline.make_pipeline(
        preprocessing.QuantileTransformer(n_quantiles=10), linear_model.LogisticRegression()
    ),
    "components": lambda: pipeline.make_pipeline(decomposition.PCA(2), svm.SVC()),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear": linear_model.LinearRegression,
    "forest": lambda: ensemble.RandomForestRegressor(5, random_state=0),
    "boosting": lambda: ensemble.GradientBoostingRegressor(n_estimators=5),
    "support vectors": svm.SVR,
    "clusters": lambda: cluster.KMeans(3, n_init=1, random_state=0),
}


def exported(model: Any, rows: Any, **options: Any) -> Any:
    return to_onnx(model, rows[:1], target_opset=18, **options)


def check(made: Any, feeds: dict[str, Any]) -> None:
    assert prove(read_plain(made)).reason == ""
    assert differs(together(made, feeds), apart(made, feeds)) == ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_are_proven(name: str) -> None:
    rows = features()
    model = CLASSIFIERS[name]().fit(rows, labels(rows))
    check(exported(model, rows, options={"zipmap": False}), {"X": rows[:7]})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_are_proven(name: str) -> None:
    rows = features()
    check(exported(REGRESSORS[name]().fit(rows, rows @ np.arange(4)), rows), {"X": rows[:7]})


def test_text_are_proven() -> None:
    colours = np.array(["red", "green", "blue"], object)[np.arange(2 * ROWS).reshape(ROWS, 2) % 3]
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore")
    model = pipeline.make_pipeline(encoder, linear_model.LogisticRegression()).fit(colours, labels(features()))
    types = [("words", StringTensorType([None, 2]))]
    made = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=18)
    check(made, {"words": colours[:7]})


REVIEWS = np.array([["good fine great"], ["bad # awful poor"], ["great GOOD"], ["awful, bad"]] * 5, object)
VECTORIZERS: dict[str, Callable[[], Any]] = {
    "words": text.TfidfVectorizer,
    "pairs of words": lambda: text.CountVectorizer(ngram_range=(1, 2), stop_words="english"),
    "letters": lambda: text.TfidfVectorizer(analyzer="char", ngram_range=(1, 3)),
    "chosen words": lambda: text.TfidfVectorizer(token_pattern="[a-zA-Z]+", lowercase=False),
}


def without_locale(made: Any) -> Any:
    """The export without its default, a locale that the machine may not have."""
    for node in made.graph.node:
        if node.op_type == "StringNormalizer":
            node.attribute.append(helper.make_attribute("locale", "C"))
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("columns", [None, 1], ids=["vector", "matrix"])
@pytest.mark.parametrize("name", VECTORIZERS)
def test_texts_are_proven(name: str, columns: int | None) -> None:
    model = pipeline.make_pipeline(VECTORIZERS[name](), linear_model.LogisticRegression())
    model.fit(REVIEWS[:, 0], np.arange(len(REVIEWS)) % 2)
    types = [("text", StringTensorType([None] if columns is None else [None, columns]))]
    made = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=18)
    rows = np.array([["good good"], [""], ["# ###"], ["Bad, awful: great fine"], ["1"]], object)
    check(without_locale(made), {"text": rows if columns else rows[:, 0]})


def test_texts_beside_numbers_are_proven() -> None:
    numbers = features()[: len(REVIEWS)]
    table = np.hstack([REVIEWS, numbers[:, :2].astype(object)])
    columns = compose.ColumnTransformer(
        [
            ("texts", text.TfidfVectorizer(), 0),
            ("numbers", preprocessing.StandardScaler(), [1, 2]),
        ]
    )
    model = pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(table, np.arange(len(table)) % 2)
    types = [("review", StringTensorType([None, 1])), ("numbers", FloatTensorType([None, 2]))]
    made = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=18)
    check(without_locale(made), {"review": REVIEWS[:6], "numbers": numbers[:6, :2]})


def test_nearest_neighbours_loop_over_rows() -> None:
    rows = features()
    made = exported(neighbors.KNeighborsClassifier().fit(rows, labels(rows)), rows, options={"zipmap": False})
    assert prove(read_plain(made)).operator == "Scan"
