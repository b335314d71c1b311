"""Rows by name through a gateway: names of the reference, defaults of the card, and their count in the monitor."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from penstock.cli.console import ExitCode
from penstock.core.frames.terms import decode_terms
from tests import harness
from tests.frames import frame_to_parquet, from_columns
from tests.harness import PATIENCE_S, Server, call, wait_until

CARD = {"summary": "s", "features": {"c": "last", "a": {"description": "first", "default": 7}, "b": "middle"}}
"""Features in another order than the data that the model was trained with."""


def graph() -> bytes:
    """A model that gives back its three features."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    made = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "rows", sides[:1], sides[1:])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with one model, its card and its reference."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "penstock.json").write_text(json.dumps({"dialects": ["kserve_v1"]}))
    with harness.running(None, folder, "--config", str(folder / "penstock.json")) as running:
        made = running.push("m", "1", graph(), {"penstock-metadata": json.dumps({"card": CARD})})
        assert made.status == 201, made
        numbers = np.random.default_rng(1).normal(size=(500, 3)).round(3)
        training = "\n".join(["a,b,c", *(",".join(map(str, row)) for row in numbers)]).encode()
        path = "/admin/v1/models/m/versions/1/reference"
        made = call(running.ops, "PUT", path, training, {"penstock-actor": "ann"})
        assert made.status == 201, made
        wait_until(lambda: names(running) == ("a", "b", "c"), PATIENCE_S, "the names of the reference")
        yield running


def names(server: Server) -> tuple[str, ...]:
    """The names of the features, as clients see them."""
    reply = server.rest("GET", "/v2/models/m")
    return decode_terms(reply.json().get("properties", {}).get("rows", "")).names if reply.status == 200 else ()


def missing(server: Server) -> dict[str, int]:
    """The missing values of each feature that the monitor has counted."""
    document = server.admin("GET", "/admin/v1/models/m/monitor?version=1").json()
    return {feature["name"]: feature["missing"] for feature in document["features"]}


def test_defaults_stand_in_and_the_monitor_counts_them_as_missing(server: Server) -> None:
    rows = [{"c": 3, "b": 2}, {"a": None, "b": 2, "c": 3}, {"c": 3, "a": 1, "b": 2}] * 20
    reply = server.rest("POST", "/v1/models/m:predict", {"instances": rows})
    assert reply.json() == {"predictions": [[7, 2, 3], [7, 2, 3], [1, 2, 3]] * 20}
    wait_until(lambda: missing(server).get("a", 0) >= 40, PATIENCE_S, "the count of missing values")
    assert missing(server) == {"a": 40, "b": 0, "c": 0}
    refused = server.rest("POST", "/v1/models/m:predict", {"instances": [{"a": 1, "c": 3}]})
    assert (refused.status, refused.error()) == (400, "row 0, column 'b': expected a number, got no value")


@pytest.mark.parametrize("by_grpc", [False, True])
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_files_of_rows_are_predicted(
    server: Server, penstock: Callable[..., Any], tmp_path: Path, name: str, by_grpc: bool
) -> None:
    columns = from_columns({"c": [3.0, 6.0, 9.0], "a": [1.0, None, 7.5], "b": [2.0, 5.0, 8.0]})
    file = tmp_path / name
    file.write_bytes(frame_to_parquet(columns) if name.endswith("parquet") else b"c,a,b\n3,1,2\n6,,5\n9,7.5,8\n")
    options = ["--url", server.grpc, "--grpc"] if by_grpc else ["--url", server.http]
    result = penstock("predict", "m", "--rows", str(file), "--rows-per-request", "2", *options)
    assert result.code == ExitCode.OK, result
    assert result.out == "y_0,y_1,y_2\n1.0,2.0,3.0\n7.0,5.0,6.0\n7.5,8.0,9.0\n"
    assert result.err.splitlines() == [
        "'a' is missing in 1 rows; the default of the model card stands in for it",
        "m: 3 rows by version 1 (stable)",
    ]
