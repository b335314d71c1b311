"""The models that tests and load tests serve: their run time is a matter of their size, not of denormal numbers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from loadtests import cut, traffic
from loadtests.graphs import find_repository
from loadtests.models import MODELS
from penstock.core.options import ModelOptions, SessionOptions
from penstock.engine import warmup
from penstock.engine.graph import infer_signature
from penstock.engine.session import open_session, read_graph
from tests import zoo
from tests.denormals import Feeds, denormals
from tests.integration.traffic import drive


def standard_feeds(path: Path) -> list[Feeds]:
    """What a model is warmed up and measured with: zeros, and random numbers for a few rows."""
    signature = infer_signature(read_graph(open_session(path, SessionOptions(), 1)), ModelOptions())
    tensors = [warmup.default_tensors(signature), warmup.random_tensors(signature, 3)]
    return [signature.bind(some).feeds for some in tensors]


def meets(path: Path, feeds: list[Feeds]) -> list[dict[str, int]]:
    model = onnx.load(path)
    return [denormals(model, feed) for feed in feeds]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    zoo.build(root / "zoo")
    zoo.build_tiny(root / "tiny")
    drive.models(root / "drive")
    traffic.build(root / "traffic")
    zoo.save(cut.build_chain(200), root / "chain.onnx")
    return root


def different(folder: Path) -> list[Path]:
    """The graphs that can be served, each once: many folders hold the same."""
    paths = (path for path in sorted(folder.rglob("*.onnx")) if path.is_file())
    served = [path for path in paths if {*path.parts, path.stem}.isdisjoint(zoo.UNAVAILABLE)]
    return list({path.read_bytes(): path for path in served}.values())


def test_no_test_model_meets_denormal_numbers(folder: Path) -> None:
    found: dict[tuple[Path, str], int] = {}
    for path in different(folder):
        for met in meets(path, standard_feeds(path)):
            found |= {(path.relative_to(folder), tensor): count for tensor, count in met.items()}
    assert found == {}


@pytest.mark.parametrize("name", MODELS)
def test_no_model_of_the_load_tests_meets_denormal_numbers(name: str) -> None:
    model = MODELS[name]
    find_repository(model)
    assert meets(model.file, [*standard_feeds(model.file), {model.input: model.rows(2)}]) == [{}, {}, {}]


def test_denormal_numbers_are_found_in_loops_too() -> None:
    fading = zoo.looping(24)
    for initializer in fading.graph.initializer:
        if initializer.name == "square":
            initializer.CopyFrom(zoo.constant("square", zoo.weights(512, 512, scale=0.0001)))
    met = denormals(fading, {"x": np.zeros(1, np.float32)})
    assert {name.split("/")[1] for name in met} == {"product", "state_in", "state_out"}
    assert min(met.values()) > 100_000
