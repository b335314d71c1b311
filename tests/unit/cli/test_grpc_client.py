"""V2 JSON documents to gRPC messages and back."""

from typing import Any

import numpy as np
import pytest

from penstock.cli.client import CallFailed
from penstock.cli.console import ExitCode
from penstock.cli.grpc_client import from_message, to_message
from penstock.core.tensors import NUMPY_TYPES
from penstock.proto import grpc_service_pb2 as pb

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "BYTES": ["ä", ""],
    "BF16": [1.5, -2.0],
    **{name: [0, 127] for name in NUMPY_TYPES if "INT" in name},
    **{name: [0.5, -1.0] for name in ("FP16", "FP32", "FP64")},
}


def document(datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}]}


@pytest.mark.parametrize("datatype", NUMPY_TYPES)
def test_every_datatype_survives_the_way_there_and_back(datatype: str) -> None:
    message = to_message("m", "", document(datatype, VALUES[datatype]))
    answer = pb.ModelInferResponse(model_name="m", model_version="1", id="7")
    answer.outputs.add(name="y", datatype=datatype, shape=[2])
    answer.raw_output_contents.append(message.raw_input_contents[0])
    (output,) = from_message(answer)["outputs"]
    assert output == {"name": "y", "datatype": datatype, "shape": [2], "data": VALUES[datatype]}


def test_ids_outputs_and_parameters_are_carried_over() -> None:
    request = {
        **document("FP32", [1.0]),
        "id": "a",
        "parameters": {"timeout": 5, "flag": True, "share": 0.5, "word": "w"},
        "outputs": [{"name": "y", "parameters": {"classification": 2}}, {"name": "z"}],
    }
    message = to_message("m", "3", request)
    assert (message.id, message.model_version) == ("a", "3")
    assert message.parameters["timeout"].int64_param == 5
    assert message.parameters["flag"].bool_param is True
    assert message.parameters["share"].double_param == 0.5
    assert message.parameters["word"].string_param == "w"
    assert [(output.name, output.parameters["classification"].int64_param) for output in message.outputs] == [
        ("y", 2),
        ("z", 0),
    ]


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("INT32", [1.5]), ("UINT8", [-1]), ("UINT8", [300]), ("FP32", ["x"]), ("WORDS", ["x"]), ("INT64", [2**70])],
)
def test_values_of_another_kind_are_a_usage_fault(datatype: str, data: list[Any]) -> None:
    with pytest.raises(CallFailed, match="the data of input 'x' does not fit") as caught:
        to_message("m", "", document(datatype, data))
    assert caught.value.code == ExitCode.USAGE


def test_nested_data_takes_the_stated_shape() -> None:
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [[1], [2]]}]}
    message = to_message("m", "", request)
    assert list(message.inputs[0].shape) == [2, 1]
    assert np.frombuffer(message.raw_input_contents[0], "<f4").tolist() == [1.0, 2.0]
