"""Denormal numbers are zero for the models that ask for it, and for no other, whichever was loaded first."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.options import ModelOptions, SessionOptions
from penstock.engine import denormals
from penstock.engine.model import LoadFailed, load
from tests.unit.engine import graphs

FLUSHING = ModelOptions(session=SessionOptions(entries=((denormals.ENTRY, "1"),)))


def product(folder: Path) -> Path:
    """y = x * 1e-10"""
    node = onnx.helper.make_node("Mul", ["x", "small"], ["y"])
    small = graphs.constant("small", np.float32(1e-10))
    return graphs.save(folder, [node], [graphs.tensor("x", ["N"])], [graphs.tensor("y", ["N"])], [small])


def test_a_failing_run_leaves_the_thread_as_it_was(tmp_path: Path) -> None:
    model = load(graphs.gather(tmp_path), FLUSHING, 1)
    with pytest.raises(InvalidInput):
        model.run({"x": np.array([9], np.int64)}, ["y"])
    assert np.float64(2.3e-308) / 4 > 0


def test_a_machine_without_the_setting_refuses_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denormals, "_ENVIRONMENTS", None)
    with pytest.raises(LoadFailed, match=r"session.set_denormal_as_zero is not supported on this machine"):
        load(product(tmp_path), FLUSHING, 1)
    load(product(tmp_path), ModelOptions(), 1)
