"""What scikit-learn's exporter writes: common pipelines are proven, and answer each row by itself."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from tests.unit.engine.row_independence.runs import apart, differs, together

ROWS = 60


def features() -> Any:
    return np.random.default_rng(5).normal(size=(ROWS, 4)).astype(np.float32)


def labels(rows: Any) -> Any:
    return (rows[:, 0] + rows[:, 1] > 0).astype(int) + (rows[:, 2] > 0.5)


def classifiers() -> dict[str, Any]:
    from sklearn import decomposition, discriminant_analysis, ensemble, naive_bayes, neural_network, svm, tree
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, QuantileTransformer, StandardScaler

    stacked = [("a", LogisticRegression()), ("b", tree.DecisionTreeClassifier(random_state=0))]
    return {
        "logistic regression": LogisticRegression(),
        "forest": ensemble.RandomForestClassifier(5, random_state=0),
        "boosting": ensemble.GradientBoostingClassifier(n_estimators=5),
        "histogram boosting": ensemble.HistGradientBoostingClassifier(max_iter=5),
        "bagging": ensemble.BaggingClassifier(n_estimators=3, random_state=0),
        "support vectors": svm.SVC(),
        "perceptrons": neural_network.MLPClassifier((8,), max_iter=30, random_state=0),
        "naive Bayes": naive_bayes.GaussianNB(),
        "tree": tree.DecisionTreeClassifier(random_state=0),
        "discriminant analysis": discriminant_analysis.LinearDiscriminantAnalysis(),
        "stacking": ensemble.StackingClassifier(stacked),
        "scaled": make_pipeline(StandardScaler(), LogisticRegression()),
        "polynomials": make_pipeline(MinMaxScaler(), PolynomialFeatures(2), LogisticRegression()),
        "quantiles": make_pipeline(QuantileTransformer(n_quantiles=10), LogisticRegression()),
        "components": make_pipeline(decomposition.PCA(2), svm.SVC()),
    }


def regressors() -> dict[str, Any]:
    from sklearn import cluster, ensemble, linear_model, svm

    return {
        "linear": linear_model.LinearRegression(),
        "forest": ensemble.RandomForestRegressor(5, random_state=0),
        "boosting": ensemble.GradientBoostingRegressor(n_estimators=5),
        "support vectors": svm.SVR(),
        "clusters": cluster.KMeans(3, n_init=1, random_state=0),
    }


def exported(model: Any, rows: Any, **options: Any) -> Any:
    from skl2onnx import to_onnx

    return to_onnx(model, rows[:1], target_opset=18, **options)


def check(made: Any, feeds: dict[str, Any]) -> None:
    assert prove(read_plain(made)).reason == ""
    assert differs(together(made, feeds), apart(made, feeds)) == ""


def exported_texts(model: Any, **columns: Any) -> Any:
    """The export of a model of columns with these shapes; all are texts but `numbers`."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    types = [
        (name, (FloatTensorType if name == "numbers" else StringTensorType)(shape)) for name, shape in columns.items()
    ]
    return to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=18)


@pytest.mark.filterwarnings("ignore")
def test_classifiers_are_proven(subtests: pytest.Subtests) -> None:
    rows = features()
    for name, model in classifiers().items():
        with subtests.test(name):
            check(exported(model.fit(rows, labels(rows)), rows, options={"zipmap": False}), {"X": rows[:7]})


@pytest.mark.filterwarnings("ignore")
def test_regressors_are_proven(subtests: pytest.Subtests) -> None:
    rows = features()
    for name, model in regressors().items():
        with subtests.test(name):
            check(exported(model.fit(rows, rows @ np.arange(4)), rows), {"X": rows[:7]})


def test_text_are_proven() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    colours = np.array(["red", "green", "blue"], object)[np.arange(2 * ROWS).reshape(ROWS, 2) % 3]
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    made = exported_texts(model.fit(colours, labels(features())), words=[None, 2])
    check(made, {"words": colours[:7]})


REVIEWS = np.array([["good fine great"], ["bad # awful poor"], ["great GOOD"], ["awful, bad"]] * 5, object)


def vectorizers() -> dict[str, Any]:
    from sklearn.feature_extraction import text

    return {
        "words": text.TfidfVectorizer(),
        "pairs of words": text.CountVectorizer(ngram_range=(1, 2), stop_words="english"),
        "letters": text.TfidfVectorizer(analyzer="char", ngram_range=(1, 3)),
        "chosen words": text.TfidfVectorizer(token_pattern="[a-zA-Z]+", lowercase=False),
    }


def without_locale(made: Any) -> Any:
    """The export without its default, a locale that the machine may not have."""
    for node in made.graph.node:
        if node.op_type == "StringNormalizer":
            node.attribute.append(helper.make_attribute("locale", "C"))
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("columns", [None, 1], ids=["vector", "matrix"])
def test_texts_are_proven(columns: int | None, subtests: pytest.Subtests) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = np.array([["good good"], [""], ["# ###"], ["Bad, awful: great fine"], ["1"]], object)
    for name, vectorizer in vectorizers().items():
        with subtests.test(name):
            model = make_pipeline(vectorizer, LogisticRegression())
            model.fit(REVIEWS[:, 0], np.arange(len(REVIEWS)) % 2)
            made = exported_texts(model, text=[None] if columns is None else [None, columns])
            check(without_locale(made), {"text": rows if columns else rows[:, 0]})


def test_texts_beside_numbers_are_proven() -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = features()[: len(REVIEWS)]
    table = np.hstack([REVIEWS, numbers[:, :2].astype(object)])
    columns = ColumnTransformer([("texts", TfidfVectorizer(), 0), ("numbers", StandardScaler(), [1, 2])])
    model = make_pipeline(columns, LogisticRegression()).fit(table, np.arange(len(table)) % 2)
    made = exported_texts(model, review=[None, 1], numbers=[None, 2])
    check(without_locale(made), {"review": REVIEWS[:6], "numbers": numbers[:6, :2]})


def test_nearest_neighbours_loop_over_rows() -> None:
    from sklearn import neighbors

    rows = features()
    made = exported(neighbors.KNeighborsClassifier().fit(rows, labels(rows)), rows, options={"zipmap": False})
    assert prove(read_plain(made)).operator == "Scan"
