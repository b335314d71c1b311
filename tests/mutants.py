"""Real graphs broken on purpose: each change respects the format's structure, so that it gets past the parser."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import onnx
from onnx import TensorProto

BIG = (0, -1, 1, 7, 2**31 - 1, -(2**31), 2**62, -(2**63))
Change = Callable[[onnx.ModelProto, random.Random], None]


def _any(rng: random.Random, items: Sequence[Any]) -> Any:
    return items[rng.randrange(len(items))] if items else None


def drop_node(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.node:
        del model.graph.node[rng.randrange(len(model.graph.node))]


def double_node(model: onnx.ModelProto, rng: random.Random) -> None:
    if node := _any(rng, model.graph.node):
        model.graph.node.append(node)


def other_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    if node := _any(rng, model.graph.node):
        names = (
            "Clip",
            "Resize",
            "Conv",
            "Loop",
            "If",
            "Scan",
            "Gather",
            "Reshape",
            "TopK",
            "GRU",
            "Einsum",
            "NonMaxSuppression",
        )
        node.op_type = _any(rng, names)


def swap_inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    if (node := _any(rng, model.graph.node)) and node.input:
        names = [name for other in model.graph.node for name in (*other.input, *other.output)] + [""]
        node.input[rng.randrange(len(node.input))] = _any(rng, names)


def more_inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    if node := _any(rng, model.graph.node):
        node.input.extend(["", node.output[0] if node.output else "x"] * rng.randrange(1, 4))


def odd_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    if node := _any(rng, model.graph.node):
        name = _any(
            rng, ("axis", "axes", "kernel_shape", "pads", "strides", "to", "min", "max", "alpha", "group", "perm")
        )
        value: Any = _any(rng, [_any(rng, BIG), [_any(rng, BIG) for _ in range(rng.randrange(6))] or [0], 1e308, "x"])
        node.attribute.append(onnx.helper.make_attribute(name, value))


def odd_dims(model: onnx.ModelProto, rng: random.Random) -> None:
    if tensor := _any(rng, model.graph.initializer):
        if tensor.dims and rng.random() < 0.7:
            tensor.dims[rng.randrange(len(tensor.dims))] = _any(rng, BIG)
        else:
            tensor.dims.append(_any(rng, BIG))


def odd_type(model: onnx.ModelProto, rng: random.Random) -> None:
    if tensor := _any(rng, model.graph.initializer):
        tensor.data_type = rng.randrange(0, 30)


def short_data(model: onnx.ModelProto, rng: random.Random) -> None:
    if tensor := _any(rng, model.graph.initializer):
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]


def noisy_data(model: onnx.ModelProto, rng: random.Random) -> None:
    if tensor := _any(rng, model.graph.initializer):
        tensor.raw_data = rng.randbytes(len(tensor.raw_data))


def outside_data(model: onnx.ModelProto, rng: random.Random) -> None:
    if tensor := _any(rng, model.graph.initializer):
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", _any(rng, ("/etc/passwd", "../x", "x", "", "a/../../x"))


def odd_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    if (value := _any(rng, [*model.graph.input, *model.graph.output])) is not None:
        dim = value.type.tensor_type.shape.dim.add()
        dim.dim_value = _any(rng, BIG)


def odd_element(model: onnx.ModelProto, rng: random.Random) -> None:
    if (value := _any(rng, [*model.graph.input, *model.graph.output])) is not None:
        value.type.tensor_type.elem_type = rng.randrange(0, 30)


def odd_opset(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.opset_import:
        model.opset_import[0].version = _any(rng, (0, 1, 6, 12, 21, 99, 2**62, -5))


def odd_ir(model: onnx.ModelProto, rng: random.Random) -> None:
    model.ir_version = _any(rng, (0, 1, 3, 4, 7, 13, 99, 2**62))


def shuffled(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def circle(model: onnx.ModelProto, rng: random.Random) -> None:
    if (node := _any(rng, model.graph.node)) and node.input and node.output:
        node.input[0] = node.output[0]


def no_outputs(model: onnx.ModelProto, rng: random.Random) -> None:
    del model.graph.output[:]


def bomb(model: onnx.ModelProto, rng: random.Random) -> None:
    size = onnx.helper.make_tensor("huge", TensorProto.INT64, [2], [rng.choice((1 << 20, 1 << 31)), 1 << 20])
    model.graph.initializer.append(size)
    model.graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["huge"], ["filled"]))
    last = model.graph.node[-1]
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["filled"], ["all"], keepdims=0))
    model.graph.node.append(onnx.helper.make_node("Add", [last.output[0] if last.output else "x", "all"], ["final"]))
    if model.graph.output:
        model.graph.output[0].name = "final"


def clip(model: onnx.ModelProto, rng: random.Random) -> None:
    if (node := _any(rng, model.graph.node)) and node.output:
        low, high = _any(rng, ((5.0, -5.0), (float("nan"), 0.0), (float("inf"), float("-inf"))))
        model.graph.initializer.append(onnx.helper.make_tensor("low", TensorProto.FLOAT, [], [low]))
        model.graph.initializer.append(onnx.helper.make_tensor("high", TensorProto.FLOAT, [], [high]))
        model.graph.node.append(onnx.helper.make_node("Clip", [node.output[0], "low", "high"], ["clipped"]))
        if model.graph.output:
            model.graph.output[0].name = "clipped"


CHANGES: tuple[Change, ...] = (
    drop_node, double_node, other_operator, swap_inputs, more_inputs, odd_attribute, odd_dims, odd_type, short_data,
    noisy_data, outside_data, odd_shape, odd_element, odd_opset, odd_ir, shuffled, circle, no_outputs, bomb, clip,
)  # fmt: skip


def mutants(originals: Sequence[onnx.ModelProto], count: int, seed: int) -> list[bytes]:
    """So many broken graphs, the same for the same seed; each has one to three changes, some also torn bytes."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        model = onnx.ModelProto()
        model.CopyFrom(_any(rng, originals))
        for _ in range(rng.randrange(1, 4)):
            try:
                _any(rng, CHANGES)(model, rng)
            except (ValueError, TypeError, OverflowError):
                continue
        data = model.SerializeToString()
        if rng.random() < 0.1 and data:
            place = rng.randrange(len(data))
            data = data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place + rng.randrange(9) :]
        made.append(data)
    return made
