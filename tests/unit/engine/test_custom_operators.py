"""Operators that are not ONNX Runtime's own: those of onnxruntime-extensions on request, all others refused by name."""

from importlib import metadata
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from penstock.core.options import ModelOptions, SessionOptions
from penstock.engine import custom_operators
from penstock.engine.faults import LoadFailed
from penstock.engine.model import load

ASKED = ModelOptions(session=SessionOptions(extensions=True))


def saved(folder: Path, operator: str, domain: str = "ai.onnx.contrib") -> Path:
    """A graph of one operator on texts."""
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], domain=domain)], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_a_model_that_asks_for_the_extensions_runs(tmp_path: Path) -> None:
    model = load(saved(tmp_path, "StringUpper"), ASKED, 1)
    assert model.run({"x": np.array(["a", "b"], object)}, ["y"])[0].tolist() == ["A", "B"]


def test_a_model_that_does_not_ask_is_reported_what_to_install_and_set(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as caught:
        load(saved(tmp_path, "StringUpper"), ModelOptions(), 1)
    assert "its operator StringUpper is one of onnxruntime-extensions" in str(caught.value)
    assert "pip install 'penstock[extensions]'" in str(caught.value)
    assert 'parameters { key: "extensions" value: { string_value: "true" } }' in str(caught.value)


def test_without_the_package_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(LoadFailed, match=r"not installed; pip install 'penstock\[extensions\]'"):
        load(saved(tmp_path, "StringUpper"), ASKED, 1)


def test_operators_that_nobody_knows_are_listed(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"operator Frobnicate of com\.example, which ONNX Runtime does not know"):
        load(saved(tmp_path, "Frobnicate", "com.example"), ASKED, 1)
    with pytest.raises(LoadFailed, match="onnxruntime-extensions does not know the operator Frobnicate"):
        load(saved(tmp_path, "Frobnicate"), ASKED, 1)


def test_the_library_is_the_installed_packages_own() -> None:
    import onnxruntime_extensions

    assert custom_operators.shared_library() == onnxruntime_extensions.get_library_path()
