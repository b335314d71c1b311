"""Writes the outputs of a call as the field ``outputs`` of a message: TensorProto with typed lists, as TensorFlow
Serving writes them, so that clients which read ``float_val`` find their values.
"""

from typing import Final

import numpy as np

from penstock.api.common.parts import Parts
from penstock.api.common.work import RequestWork
from penstock.api.grpc.tensorflow_serving.datatypes import FIELD_OF, NUMBERS
from penstock.api.grpc.typed_parts import delimit, pack_field
from penstock.core.tensors import Tensor
from penstock.proto import tensorflow_pb2 as tf

_AS_THEY_LIE: Final = frozenset({"BOOL", "FP32", "FP64"})
_SIXTEEN_BITS: Final = frozenset({"FP16", "BF16"})
_KEY, _VALUE = 1, 2
"""The fields of an entry of a map."""


def map_entry(number: int, tensor: Tensor, work: RequestWork) -> Parts:
    """Return a tensor as an entry of the map that is the field ``number``: its name, and a TensorProto.

    Raises:
        LargeWork: it has to be written on a thread.
    """
    if tensor.datatype in _AS_THEY_LIE:
        work.add_copied(tensor.data.nbytes)
    elif tensor.datatype != "BYTES":
        work.numbers(tensor.data.size)
    proto = tf.TensorProto(dtype=tf.DataType.Name(NUMBERS[tensor.datatype]), tensor_shape=_shape_of(tensor))
    values = pack_field(FIELD_OF[tensor.datatype], _as_bits(tensor), work.pause)
    name = tensor.name.encode()
    return delimit(number, [*delimit(_KEY, [name]), *delimit(_VALUE, [proto.SerializeToString(), *values])])


def _shape_of(tensor: Tensor) -> tf.TensorShapeProto:
    return tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=size) for size in tensor.data.shape])


def _as_bits(tensor: Tensor) -> Tensor:
    """Return 16-bit floats as their bits, which is what ``half_val`` holds; other tensors as they are."""
    if tensor.datatype not in _SIXTEEN_BITS:
        return tensor
    return Tensor(tensor.name, "UINT16", np.ascontiguousarray(tensor.data).view(np.uint16))
