"""Classifiers of LightGBM and CatBoost, and a pipeline on columns of several types, as their exporters write them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc
import tritonclient.http

from tests import boosted, harness
from tests.boosted import Export, catboost, lightgbm, lightgbm_regressor
from tests.harness import Server

CLASSIFIERS: dict[str, Export] = {
    "lightgbm_two": lightgbm([0, 1], 1),
    "lightgbm_words": lightgbm(["no", "yes"], 2),
    "lightgbm_many": lightgbm([3, 5, 7, 11], 3),
    "lightgbm_many_words": lightgbm(["high", "low", "mid"], 4),
    "catboost_two": catboost([0, 1], 5),
    "catboost_words": catboost(["no", "yes"], 6),
    "catboost_many": catboost([0, 1, 2], 7),
    "catboost_many_words": catboost(["haut", "tief", "mittel, über"], 8),
}
REGRESSOR = lightgbm_regressor(9)
ROWS = np.random.default_rng(10).standard_normal((23, boosted.FEATURES)).astype(np.float32)
COLUMNS = "columns"
NAMES = ("age", "income", "city", "plan")


def column_pipeline() -> tuple[Any, Any, onnx.ModelProto]:
    """A pipeline on four columns of two types, rows for it, and its export with all defaults."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    generator = np.random.default_rng(11)
    age, income = generator.integers(18, 90, 200), generator.normal(50, 10, 200)
    city, plan = generator.choice(["Köln", "Paris", "Łódź"], 200), generator.choice(["a", "b"], 200)
    rows = np.array([age, income, city, plan], object).T
    classes = np.where((income > 50) ^ (city == "Paris"), "leaves", "stays")
    steps = [("n", StandardScaler(), [0, 1]), ("w", OneHotEncoder(handle_unknown="ignore"), [2, 3])]
    pipeline = make_pipeline(ColumnTransformer(steps), LogisticRegression(max_iter=500)).fit(rows, classes)
    kinds = (FloatTensorType, FloatTensorType, StringTensorType, StringTensorType)
    types = [(name, kind([None, 1])) for name, kind in zip(NAMES, kinds, strict=True)]
    return pipeline, rows[:17], to_onnx(pipeline, initial_types=types)


@pytest.fixture(scope="module")
def pipeline() -> tuple[Any, Any, onnx.ModelProto]:
    return column_pipeline()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pipeline: tuple[Any, Any, onnx.ModelProto]) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    exports = {name: export.model for name, export in CLASSIFIERS.items()}
    for name, model in {**exports, "regressor": REGRESSOR.model, COLUMNS: pipeline[2]}.items():
        (models / f"{name}.onnx").write_bytes(model.SerializeToString())
    with harness.running(models, tmp_path_factory.mktemp("boosted")) as running:
        yield running


def ask(module: Any, address: str, model: str, inputs: dict[str, Any], outputs: list[Any] | None = None) -> Any:
    """What a client of Triton's is answered, by its HTTP or gRPC module."""
    kinds = {"f": "FP32", "O": "BYTES"}
    tensors = []
    for name, values in inputs.items():
        tensors.append(module.InferInput(name, list(values.shape), kinds[values.dtype.kind]))
        tensors[-1].set_data_from_numpy(values)
    with module.InferenceServerClient(address) as client:
        return client.infer(model, tensors, outputs=outputs)


def texts(values: Any) -> list[Any]:
    return [item.decode() if isinstance(item, bytes) else item for item in values.ravel().tolist()]


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> tuple[Any, str]:
    return (tritonclient.http, server.http) if request.param == "rest" else (tritonclient.grpc, server.grpc)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_boosted_classifier_answers_what_the_library_predicts(client: tuple[Any, str], name: str) -> None:
    export = CLASSIFIERS[name]
    result = ask(*client, name, {export.given: ROWS})
    assert result.as_numpy("probabilities") == pytest.approx(export.probabilities(ROWS), abs=1e-5)
    assert texts(result.as_numpy("label")) == export.predictions(ROWS)
    best = client[0].InferRequestedOutput("probabilities", class_count=1)
    ranked = texts(ask(*client, name, {export.given: ROWS}, [best]).as_numpy("probabilities"))
    assert [text.split(":", 2)[2] for text in ranked] == [str(prediction) for prediction in export.predictions(ROWS)]


def test_a_boosted_regressor(client: tuple[Any, str]) -> None:
    result = ask(*client, "regressor", {REGRESSOR.given: ROWS})
    assert result.as_numpy("variable") == pytest.approx(REGRESSOR.trees.scores(ROWS), abs=1e-5)


def test_a_pipeline_on_columns_of_several_types(
    client: tuple[Any, str], pipeline: tuple[Any, Any, onnx.ModelProto]
) -> None:
    fitted, rows, _ = pipeline
    columns = {name: rows[:, [place]] for place, name in enumerate(NAMES)}
    inputs = {name: column if name in NAMES[2:] else column.astype(np.float32) for name, column in columns.items()}
    result = ask(*client, COLUMNS, inputs)
    assert result.as_numpy("output_probability") == pytest.approx(fitted.predict_proba(rows), abs=1e-5)
    assert texts(result.as_numpy("output_label")) == fitted.predict(rows).tolist()


def test_labels_that_are_said_to_be_one_have_as_many_as_rows(server: Server) -> None:
    for name in (*CLASSIFIERS, "regressor", COLUMNS):
        metadata = server.rest("GET", f"/v2/models/{name}").json()
        assert {output["shape"][0] for output in metadata["outputs"]} == {-1}, metadata
        config = server.rest("GET", f"/v2/models/{name}/config").json()
        assert config["parameters"]["batching"]["string_value"].startswith("requests share runs"), name


def test_models_show_says_what_was_cut(server: Server, tmp_path: Any) -> None:
    for name, classes in (("lightgbm_words", "no, yes"), ("catboost_many", "0, 1, 2")):
        shown = harness.run_command("models", "show", f"{name}:1", "--url", server.ops, folder=tmp_path)
        assert f"probabilities is a tensor of the probabilities of {classes}" in " ".join(shown.stdout.split())
