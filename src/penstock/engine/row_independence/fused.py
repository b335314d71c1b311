"""com.microsoft: operators that ONNX Runtime's own tools write into files. Attributes that are not listed are refused,
since there is no published rule for these operators."""

from penstock.engine.row_independence import attention, texts
from penstock.engine.row_independence.broadcasting import broadcast, same_shape, with_single_bounds
from penstock.engine.row_independence.images import convolution, quantized_convolution
from penstock.engine.row_independence.operation import Operation, OperatorRule, crosses, rows_at
from penstock.engine.row_independence.products import general_product, multiply, transposable_product
from penstock.engine.row_independence.reductions import layer_normalization
from penstock.engine.row_independence.sizes import ONE
from penstock.engine.row_independence.values import GraphValue, NotProven, laid_out, normalise_axis


def quantized_sum(op: Operation) -> list[GraphValue]:
    """QLinearAdd and QLinearMul (a, a's scale and zero point, b, b's, the result's)."""
    op.single(1, 2, 4, 5, 6, 7)
    return [broadcast([op.tensor(0), op.tensor(3)], op.fresh)]


def fused_convolution(op: Operation) -> list[GraphValue]:
    """FusedConv: a convolution, to which something of the same rows may be added."""
    results = convolution(op)
    if op.has(3) and op.tensor(3).rows != results[0].rows:
        raise NotProven("adds a value of other rows")
    return results


def quantized_pool(op: Operation) -> list[GraphValue]:
    """QLinearGlobalAveragePool, with the channels in front."""
    value = op.tensor(0)
    op.single(1, 2, 3, 4)
    rows_at(value, 0)
    if op.flag("channels_last"):
        raise NotProven("has its channels last, and there is no rule for that layout")
    return [laid_out([*value.shape[:2], *[ONE] * (value.rank - 2)], value.rows)]


def quantized_concatenation(op: Operation) -> list[GraphValue]:
    """QLinearConcat (the result's scale and zero point, then a value, its scale and zero point, and so on)."""
    values = [op.tensor(index) for index in range(2, len(op.values), 3)]
    op.single(0, 1, *[index for index in range(2, len(op.values)) if (index - 2) % 3])
    if len({value.rows for value in values}) > 1 or len({value.rank for value in values}) > 1:
        raise NotProven("concatenates rows with a value of other rows")
    axis = normalise_axis(op.integer("axis", 0), values[0].rank)
    crosses(values[0], [axis], "concatenates values along")
    dims = list(values[0].shape)
    dims[axis] = op.fresh()
    return [laid_out(dims, values[0].rows)]


def quantized_softmax(op: Operation) -> list[GraphValue]:
    """QLinearSoftmax; which axes it takes depends on an operator set of its own."""
    value = op.tensor(0)
    op.single(1, 2, 3, 4)
    axis = normalise_axis(op.integer("axis", -1), value.rank)
    crosses(value, range(axis, value.rank), "normalises over")
    return [GraphValue(value.dims, value.rows)]


def dequantized_product(op: Operation) -> list[GraphValue]:
    """MatMulIntegerToFloat (a, b, their scales and zero points, bias); the scale of a is one constant."""
    op.single(2, 4)
    op.require_fixed(1, 3, 5, 6)
    return [multiply(op, op.tensor(0), op.tensor(1))]


def quantized_general_product(op: Operation) -> list[GraphValue]:
    """QGemm (a, a's scale and zero point, b, b's, bias, the result's)."""
    op.single(1, 2, 7, 8)
    op.require_fixed(3, 4, 5, 6)
    value, weights = op.tensor(0), op.tensor(3)
    if op.flag("transA"):
        raise NotProven("exchanges the axes of its rows")
    columns = weights.shape[0 if op.flag("transB") else 1]
    crosses(value, [value.rank - 1], "sums over")
    return [laid_out([*value.shape[:-1], columns], value.rows)]


_ACTIVATION = frozenset({"activation", "activation_params", "activation_alpha", "activation_beta"})
_CONVOLUTION = frozenset({"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"})
_GEMM = frozenset({"alpha", "beta", "transA", "transB"})
_HEADS = frozenset({"num_heads", "mask_filter_value", "scale", "unidirectional"})
_NORM = frozenset({"epsilon", "axis", "stash_type"})
_NONE: frozenset[str] = frozenset()

RULES: dict[str, tuple[OperatorRule, frozenset[str]]] = {
    "Attention": (attention.packed_attention, _HEADS | {"qkv_hidden_sizes"}),
    "BiasGelu": (attention.apply_bias, _NONE),
    "DequantizeLinear": (with_single_bounds, _NONE),
    "EmbedLayerNormalization": (attention.embedding, _NORM | {"mask_index_type"}),
    "FastGelu": (attention.apply_bias, _NONE),
    "FusedConv": (fused_convolution, _CONVOLUTION | _ACTIVATION),
    "FusedGemm": (general_product, _GEMM | _ACTIVATION | {"activation_gamma"}),
    "FusedMatMul": (transposable_product, frozenset({"alpha", "transA", "transB", "transBatchA", "transBatchB"})),
    "Gelu": (same_shape, _NONE),
    "MatMulIntegerToFloat": (dequantized_product, _NONE),
    "MatMulNBits": (attention.quantized_weights_product, frozenset({"K", "N", "bits", "block_size", "accuracy_level"})),
    "MurmurHash3": (same_shape, frozenset({"positive", "seed"})),
    "MultiHeadAttention": (attention.multi_head_attention, _HEADS),
    "QGemm": (quantized_general_product, _GEMM),
    "QLinearAdd": (quantized_sum, _NONE),
    "QLinearConcat": (quantized_concatenation, frozenset({"axis"})),
    "QLinearConv": (quantized_convolution, _CONVOLUTION),
    "QLinearGlobalAveragePool": (quantized_pool, frozenset({"channels_last"})),
    "QLinearLeakyRelu": (with_single_bounds, frozenset({"alpha"})),
    "QLinearMul": (quantized_sum, _NONE),
    "QLinearSigmoid": (with_single_bounds, _NONE),
    "QLinearSoftmax": (quantized_softmax, frozenset({"axis", "opset"})),
    "QuantizeLinear": (with_single_bounds, _NONE),
    "QuickGelu": (same_shape, frozenset({"alpha"})),
    "SimplifiedLayerNormalization": (layer_normalization, _NORM),
    "SkipLayerNormalization": (attention.skip_layer_normalization, frozenset({"epsilon"})),
    "SkipSimplifiedLayerNormalization": (attention.skip_layer_normalization, frozenset({"epsilon"})),
    "Tokenizer": (texts.tokens, frozenset({"mark", "mincharnum", "pad_value", "separators", "tokenexp"})),
}
"""Operators of com.microsoft, with the attributes that their rules know."""
