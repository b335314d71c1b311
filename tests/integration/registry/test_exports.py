"""Models as people export them, served as they are: maps of classes, texts, and operators of an extension."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import harness
from tests.harness import PATIENCE_S

TEXTS = np.array(["good fine great", "bad awful poor", "great GOOD", "awful bad"] * 5)
LOCALE = "en_US.UTF-8"


def iris() -> tuple[Any, Any, onnx.ModelProto]:
    """A forest, its rows, and its export with all defaults."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    rows, classes = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[classes]
    forest = RandomForestClassifier(5, random_state=0).fit(rows, names)
    rows = rows.astype(np.float32)
    return forest, rows, to_onnx(forest, rows[:1])


def text_pipeline() -> tuple[Any, onnx.ModelProto]:
    """A pipeline on texts, and its export; it needs a locale."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, np.array(["pos", "neg"] * 10))
    return pipeline, to_onnx(pipeline, initial_types=[("text", StringTensorType([None]))])


def put(folder: Path, name: str, model: onnx.ModelProto, config: str = "") -> Path:
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(model.SerializeToString())
    if config:
        (folder / name / "config.pbtxt").write_text(config)
    return path


def infer(server: harness.Server, model: str, tensor: dict[str, Any], **more: Any) -> Any:
    reply = server.rest("POST", f"/v2/models/{model}/infer", {"inputs": [tensor], **more})
    assert reply.status == 200, reply.body
    return {output["name"]: output for output in reply.json()["outputs"]}


def reason(server: harness.Server, model: str) -> str:
    """Why a model cannot be served, as callers read it."""
    index = server.rest("POST", "/v2/repository/index", {}).json()
    return next(str(item["reason"]) for item in index if item["name"] == model)


@pytest.mark.parametrize("pushed", [False, True], ids=["folder", "registry"])
def test_the_map_of_a_classifier_is_a_tensor_with_labels(tmp_path: Path, pushed: bool) -> None:
    forest, rows, model = iris()
    content = put(tmp_path / "models", "iris", model).read_bytes()
    with harness.running(None if pushed else tmp_path / "models", tmp_path) as server:
        if pushed:
            assert server.push("iris", "1", content).status in (200, 201)
        tensor = {"name": "X", "datatype": "FP32", "shape": [5, 4], "data": rows[:5].tolist()}
        given = infer(server, "iris", tensor)["output_probability"]
        assert (given["datatype"], given["shape"]) == ("FP32", [5, 3])
        assert np.allclose(np.reshape(given["data"], (5, 3)), forest.predict_proba(rows[:5]), atol=1e-5)
        asked = {"name": "output_probability", "parameters": {"classification": 1}}
        best = infer(server, "iris", tensor, outputs=[asked])["output_probability"]["data"]
        assert {text.rsplit(":", 1)[1] for text in best} == {"setosa"}
        shown = harness.run_command("models", "show", "iris:1", "--url", server.ops, folder=tmp_path)
        text = " ".join(shown.stdout.split())
        assert "output_probability is a tensor of the probabilities of setosa, versicolor, virginica" in text
        if pushed:
            out = tmp_path / "back.onnx"
            ended = harness.run_command("models", "export", "iris:1", str(out), "--url", server.ops, folder=tmp_path)
            assert ended.returncode == 0, ended
            assert out.read_bytes() == content


def test_the_message_of_a_missing_locale_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    put(tmp_path / "models", "texts", text_pipeline()[1])
    with harness.running(tmp_path / "models", tmp_path, env={"LOCPATH": str(tmp_path / "none")}) as server:
        assert f"the locale {LOCALE}, which this machine lacks; install it (Debian: locales" in reason(server, "texts")


def test_a_text_pipeline_is_served_where_its_locale_is(tmp_path: Path) -> None:
    """The locale is compiled for this test; where its sources are missing, the reason must say what to install."""
    command = ["localedef", "--no-archive", "-i", "en_US", "-f", "UTF-8", str(tmp_path / "locales" / LOCALE)]
    (tmp_path / "locales").mkdir()
    compiled = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S).returncode == 0
    pipeline, model = text_pipeline()
    put(tmp_path / "models", "texts", model)
    with harness.running(tmp_path / "models", tmp_path, env={"LOCPATH": str(tmp_path / "locales")}) as server:
        if not compiled:
            assert LOCALE in reason(server, "texts")
            return
        tensor = {"name": "text", "datatype": "BYTES", "shape": [4], "data": TEXTS[:4].tolist()}
        outputs = infer(server, "texts", tensor)
        assert outputs["output_label"]["data"] == pipeline.predict(TEXTS[:4]).tolist()
        given = np.reshape(outputs["output_probability"]["data"], (4, 2))
        assert np.allclose(given, pipeline.predict_proba(TEXTS[:4]), atol=1e-5)


def test_operators_of_an_extension_are_served_where_the_model_asks_for_them(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "xy"]
    node = helper.make_node("StringUpper", ["x"], ["y"], domain="ai.onnx.contrib")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    put(tmp_path / "models", "asks", model, 'parameters { key: "extensions" value: { string_value: "true" } }')
    put(tmp_path / "models", "plain", model)
    with harness.running(tmp_path / "models", tmp_path) as server:
        tensor = {"name": "x", "datatype": "BYTES", "shape": [2], "data": ["one", "two"]}
        assert infer(server, "asks", tensor)["y"]["data"] == ["ONE", "TWO"]
        assert "its operator StringUpper is one of onnxruntime-extensions" in reason(server, "plain")
        assert 'parameters { key: "extensions"' in reason(server, "plain")


def test_the_message_names_missing_weights(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], bytes(16), raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "deep/weights_of_m.bin"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weight])
    put(tmp_path / "models", "m", helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with harness.running(tmp_path / "models", tmp_path) as server:
        assert "'weights_of_m.bin'" in reason(server, "m")
        assert str(tmp_path) not in reason(server, "m")
