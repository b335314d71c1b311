"""Names and numbers of TensorFlow Serving's gRPC API: its services, and the types of tensors by their fields."""

from typing import Final

PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_SERVICE: Final = "tensorflow.serving.ModelService"

DATATYPES: Final[dict[int, str]] = {
    1: "FP32",
    2: "FP64",
    3: "INT32",
    4: "UINT8",
    5: "INT16",
    6: "INT8",
    7: "BYTES",
    9: "INT64",
    10: "BOOL",
    14: "BF16",
    17: "UINT16",
    19: "FP16",
    22: "UINT32",
    23: "UINT64",
}
"""Datatypes by the numbers of ``tensorflow.DataType``."""

NUMBERS: Final[dict[str, int]] = {datatype: number for number, datatype in DATATYPES.items()}

FIELDS: Final[dict[int, str]] = {
    5: "float_val",
    6: "double_val",
    7: "int_val",
    8: "string_val",
    10: "int64_val",
    11: "bool_val",
    13: "half_val",
    16: "uint32_val",
    17: "uint64_val",
}
"""The fields of a TensorProto with its elements, by number."""

FIELD_OF: Final[dict[str, int]] = {
    "FP32": 5,
    "FP64": 6,
    "INT32": 7,
    "INT16": 7,
    "INT8": 7,
    "UINT8": 7,
    "UINT16": 7,
    "BYTES": 8,
    "INT64": 10,
    "BOOL": 11,
    "FP16": 13,
    "BF16": 13,
    "UINT32": 16,
    "UINT64": 17,
}
"""The field of each datatype."""
