"""Models of a folder that ask for OpenVINO: examined in the sandbox, served like others, refused with a reason."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.openvino import NEEDS_OPENVINO, STATED

pytestmark = NEEDS_OPENVINO

REFUSED = {
    "rows": (zoo.mlp(), "", "state a max_batch_size from 1 to 64"),
    "operator": (zoo.nonzero(), "max_batch_size: 8", "the operator NonZero is not one of those"),
    "divides": (zoo.binary("Div", "INT32"), "max_batch_size: 8", "its graph needs tests of a request's values"),
    "wide": (zoo.identity("INT64", ("n", 2)), "max_batch_size: 8", "for large whole numbers, its answers"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    zoo.place(models, "fast", {"1": zoo.mlp()}, f"max_batch_size: 8 instance_group {{ count: 2 }} {STATED}")
    zoo.place(models, "plain", {"1": zoo.mlp()}, "max_batch_size: 8")
    for name, (model, config, _) in REFUSED.items():
        zoo.place(models, name, {"1": model}, f"{config} {STATED}")
    with harness.running(models, tmp_path_factory.mktemp("accelerated")) as running:
        yield running


def ask(server: Server, model: str, rows: np.ndarray) -> Any:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return server.rest("POST", f"/v2/models/{model}/infer", {"inputs": [tensor]})


def state(server: Server, name: str) -> Any:
    return next(item for item in server.rest("POST", "/v2/repository/index", {}).json() if item["name"] == name)


def test_it_answers_many_callers_as_without(server: Server) -> None:
    data = [np.random.default_rng(seed).normal(size=(1 + seed % 8, 64)).round(4) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda rows: ask(server, "fast", rows), data))
    for rows, reply in zip(data, replies, strict=True):
        assert reply.status == 200, reply.error()
        expected = ask(server, "plain", rows).json()["outputs"][0]
        assert reply.json()["outputs"][0]["shape"] == expected["shape"]
        assert reply.json()["outputs"][0]["data"] == pytest.approx(expected["data"], rel=1e-3, abs=1e-4)


def test_its_configuration_names_it_and_requests_share_runs(server: Server) -> None:
    config = server.rest("GET", "/v2/models/fast/config").json()
    accelerators = config["optimization"]["execution_accelerators"]["cpu_execution_accelerator"]
    assert [accelerator["name"] for accelerator in accelerators] == ["openvino"]
    assert config["parameters"]["batching"]["string_value"].startswith("requests share runs: its graph proves")


@pytest.mark.parametrize("rows", [0, 9])
def test_no_and_too_many_rows_are_the_callers_error(server: Server, rows: int) -> None:
    reply = ask(server, "fast", np.zeros((rows, 64)))
    assert reply.status == 400
    assert ("is empty" if rows == 0 else "limit of 8") in reply.error()
    assert ask(server, "fast", np.zeros((1, 64))).status == 200


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_serve_is_refused_with_a_reason(server: Server, name: str) -> None:
    assert REFUSED[name][2] in state(server, name)["reason"]


def test_it_is_unloaded_and_loaded_again(server: Server) -> None:
    assert server.rest("POST", "/v2/repository/models/fast/unload", {}).status == 200
    wait_until(lambda: ask(server, "fast", np.zeros((1, 64))).status != 200, PATIENCE_S, "the unloaded model")
    assert server.rest("POST", "/v2/repository/models/fast/load", {}).status == 200
    assert ask(server, "fast", np.zeros((1, 64))).status == 200


def test_a_load_may_ask_for_it(server: Server) -> None:
    config = '{"max_batch_size": 4, "optimization": {"execution_accelerators": {"cpu_execution_accelerator": [%s]}}}'
    refused = {"parameters": {"config": config % '{"name": "onednn"}'}}
    assert "'onednn' is not offered" in server.rest("POST", "/v2/repository/models/plain/load", refused).error()
    asked = {"parameters": {"config": config % '{"name": "openvino"}'}}
    assert server.rest("POST", "/v2/repository/models/plain/load", asked).status == 200
    assert ask(server, "plain", np.zeros((5, 64))).status == 400
    assert ask(server, "plain", np.zeros((4, 64))).status == 200
