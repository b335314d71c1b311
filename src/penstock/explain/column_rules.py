"""The operators before a model that make each column of one feature: casts, scales, encodings, selections."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.explain.nodes import Constants, GraphNode, NotExact
from penstock.explain.transforms import (
    SINGLE,
    ChangedColumns,
    EncodedCategory,
    InputTransforms,
    ReshapedColumns,
    SelectedColumns,
    cast_to,
    look_up,
    replace_missing,
    scale_by,
)

ML = "ai.onnx.ml"
"""The domain of the operators of classical models."""

FLOAT_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    11: np.dtype(np.float64),
}
"""Types of TensorProto that casts before and behind a model may have."""


def cast_type(node: GraphNode) -> np.dtype[Any]:
    """Return the type of a Cast; raises ``NotExact`` if it has no exact numbers."""
    dtype = FLOAT_TYPES.get(node.integer("to", 0))
    if dtype is None:
        raise NotExact("a cast to a type that has no exact numbers")
    return dtype


def _keep_columns(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    return inputs


def _cast(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    dtype = cast_type(node)
    return ChangedColumns(inputs, cast_to(dtype), dtype)


def _apply_scaler(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    return ChangedColumns(inputs, scale_by(node.array("offset"), node.array("scale")), SINGLE)


def _apply_imputer(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    floats = node.array("imputed_value_floats")
    values: NDArray[Any] = floats if floats.size else node.integers("imputed_value_int64s")
    replaced = node.number("replaced_value_float", 0.0) if floats.size else node.integer("replaced_value_int64", 0)
    return ChangedColumns(inputs, replace_missing(float(replaced), values), inputs.result)


def _select_columns(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    chosen = constants.get(node.inputs[1])
    if chosen is None or chosen.dtype != np.int64 or (node.op_type == "Gather" and node.integer("axis", 0) != 1):
        raise NotExact(f"{node.op_type} before the model does not select features")
    return SelectedColumns(inputs, chosen.reshape(-1))


def _reshape_columns(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    shape = constants.get(node.inputs[1])
    if shape is None or shape.reshape(-1).shape != (2,) or shape.reshape(-1)[0] != -1:
        raise NotExact("Reshape before the model does not keep rows apart")
    return ReshapedColumns(inputs, int(shape.reshape(-1)[1]))


def _one_hot(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    texts = node.texts("cats_strings")
    categories = np.array(texts, dtype=object) if texts else node.integers("cats_int64s")
    return EncodedCategory(inputs, categories)


def _encode_labels(inputs: InputTransforms, node: GraphNode, constants: Constants) -> InputTransforms:
    """LabelEncoder from texts or whole numbers to numbers."""
    keys: Sequence[Any] = node.texts("keys_strings") or node.integers("keys_int64s").tolist()
    whole, floats = node.integers("values_int64s"), node.array("values_floats")
    values: NDArray[Any] = whole if whole.size else floats
    if not len(keys) or len(keys) != len(values):
        raise NotExact("LabelEncoder before the model has other than texts or whole numbers")
    default = node.integer("default_int64", -1) if whole.size else node.number("default_float", -0.0)
    return ChangedColumns(inputs, look_up(keys, values, default), values.dtype)


ColumnRule: TypeAlias = Callable[[InputTransforms, GraphNode, Constants], InputTransforms]
COLUMN_RULES: dict[tuple[str, str], ColumnRule] = {
    ("", "Identity"): _keep_columns,
    ("", "Cast"): _cast,
    ("", "Gather"): _select_columns,
    ("", "Reshape"): _reshape_columns,
    (ML, "ArrayFeatureExtractor"): _select_columns,
    (ML, "Imputer"): _apply_imputer,
    (ML, "LabelEncoder"): _encode_labels,
    (ML, "OneHotEncoder"): _one_hot,
    (ML, "Scaler"): _apply_scaler,
}
"""The operators before a model that keep each column the matter of one feature."""
