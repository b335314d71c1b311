"""Models that do hardly anything but give large answers: copies of every datatype, and outputs of any size."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from penstock.core.tensors import NUMPY_TYPES

_NAMES = {
    "BOOL": "BOOL",
    "FP16": "FLOAT16",
    "FP32": "FLOAT",
    "FP64": "DOUBLE",
    "BF16": "BFLOAT16",
    "BYTES": "STRING",
}
_ONE_THREAD = 'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }\n'


def copy_name(datatype: str) -> str:
    """The model that gives its input ``x`` [n, m] of a datatype back as ``y``."""
    return f"copy_{datatype.lower()}"


def place(folder: Path) -> None:
    """Write all models: the copies, and ``grow_numbers`` and ``grow_texts``, whose ``y`` is ``value`` [1] as often as
    ``count`` [1] says."""
    for datatype in NUMPY_TYPES:
        _save(_copy(_onnx_type(datatype)), folder, copy_name(datatype))
    _save(_grow(TensorProto.FLOAT), folder, "grow_numbers")
    _save(_grow(TensorProto.STRING), folder, "grow_texts")


def _onnx_type(datatype: str) -> int:
    return int(getattr(TensorProto, _NAMES.get(datatype, datatype)))


def _copy(kind: int) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, kind, ["n", "m"]) for name in "xy")
    return _model([helper.make_node("Identity", ["x"], ["y"])], [x], y)


def _grow(kind: int) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info("value", kind, [1]),
        helper.make_tensor_value_info("count", TensorProto.INT64, [1]),
    ]
    y = helper.make_tensor_value_info("y", kind, ["m"])
    return _model([helper.make_node("Expand", ["value", "count"], ["y"])], inputs, y)


def _model(nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], y: onnx.ValueInfoProto) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "echo", inputs, [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _save(model: onnx.ModelProto, folder: Path, name: str) -> None:
    location_of = folder / name / "1"
    location_of.mkdir(parents=True)
    onnx.save(model, location_of / "model.onnx")
    (folder / name / "config.pbtxt").write_text(_ONE_THREAD)
