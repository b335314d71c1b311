"""The operators that are known to answer each row by itself, each with the rule that says when; all others are not."""

from collections.abc import Mapping

from penstock.engine.row_independence import (
    classical,
    fused,
    images,
    layout,
    reductions,
    selection,
    shape_arithmetic,
    texts,
)
from penstock.engine.row_independence.attention import attention, rotary_embedding
from penstock.engine.row_independence.broadcasting import (
    cast_like,
    dropout,
    elementwise,
    quantized_by_constants,
    same_shape,
    with_single_bounds,
)
from penstock.engine.row_independence.operation import OperatorRule
from penstock.engine.row_independence.products import (
    einsum,
    general_product,
    integer_matrix_product,
    matrix_product,
    quantized_matrix_product,
)
from penstock.engine.row_independence.recurrent import recurrent

OPERATOR_SETS: Mapping[str, tuple[int, int]] = {
    "": (7, 26),
    "ai.onnx.ml": (1, 5),
    "com.microsoft": (1, 1),
}
"""The operator sets whose meaning the rules know, by domain: from, to."""


def _rules_for(names: str, rule: OperatorRule) -> dict[str, OperatorRule]:
    return dict.fromkeys(names.split(), rule)


_SAME_SHAPE = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish
    Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal RegexFullMatch Relu Round Selu Shrink Sigmoid Sign Sin
    Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""

_ELEMENTWISE = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod
    Mul Or PRelu Pow StringConcat Sub Sum Where Xor
"""

_REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"

_STANDARD: dict[str, OperatorRule] = {
    **_rules_for(_SAME_SHAPE, same_shape),
    **_rules_for(_ELEMENTWISE, elementwise),
    **_rules_for(_REDUCTIONS, reductions.reduction(axes_are_input=18)),
    **_rules_for("ArgMax ArgMin", reductions.arg_extreme),
    **_rules_for("AveragePool LpPool MaxPool", images.pool),
    **_rules_for("CumProd CumSum", reductions.cumulative),
    **_rules_for("DequantizeLinear QuantizeLinear", quantized_by_constants),
    **_rules_for("GRU RNN", recurrent(cell_state=False)),
    **_rules_for("GlobalAveragePool GlobalLpPool GlobalMaxPool", images.global_pool),
    **_rules_for("GroupNormalization InstanceNormalization LRN", reductions.per_row_normalization),
    **_rules_for("Hardmax LogSoftmax Softmax", reductions.softmax),
    **_rules_for("LayerNormalization RMSNormalization", reductions.layer_normalization),
    "Attention": attention,
    "BatchNormalization": reductions.batch_normalization,
    "CastLike": cast_like,
    "Clip": with_single_bounds,
    "Concat": selection.concatenate,
    "Constant": layout.constant,
    "ConstantOfShape": layout.constant_of_shape,
    "Conv": images.convolution,
    "ConvInteger": images.integer_convolution,
    "ConvTranspose": images.transposed_convolution,
    "DepthToSpace": images.depth_to_space,
    "Dropout": dropout,
    "Einsum": einsum,
    "Expand": layout.expand,
    "Flatten": layout.flatten,
    "Gather": selection.gather,
    "GatherElements": selection.gather_elements,
    "GatherND": selection.gather_nd,
    "Gemm": general_product,
    "GridSample": images.grid_sample,
    "LSTM": recurrent(cell_state=True),
    "LpNormalization": reductions.along_axis_attribute(-1),
    "MatMul": matrix_product,
    "MatMulInteger": integer_matrix_product,
    "MeanVarianceNormalization": reductions.mean_variance,
    "OneHot": selection.one_hot,
    "Pad": selection.pad,
    "QLinearConv": images.quantized_convolution,
    "QLinearMatMul": quantized_matrix_product,
    "Range": layout.number_range,
    "ReduceSum": reductions.reduction(axes_are_input=13),
    "Reshape": layout.reshape,
    "Resize": images.resize,
    "ReverseSequence": selection.reverse_sequences,
    "RotaryEmbedding": rotary_embedding,
    "ScatterElements": selection.scatter_elements,
    "Shape": shape_arithmetic.shape_of,
    "Size": shape_arithmetic.size_of,
    "Slice": selection.slice_rows,
    "SpaceToDepth": images.space_to_depth,
    "Split": selection.split,
    "Squeeze": layout.squeeze,
    "StringNormalizer": texts.string_normalizer,
    "StringSplit": texts.split,
    "TfIdfVectorizer": texts.tfidf_vectorizer,
    "Tile": layout.tile,
    "TopK": reductions.top_k,
    "Transpose": layout.transpose,
    "Trilu": reductions.upper_triangle,
    "Unsqueeze": layout.unsqueeze,
    "Upsample": images.upsample,
}

RULES: Mapping[tuple[str, str], OperatorRule] = {
    **{("", name): rule for name, rule in _STANDARD.items()},
    **{("ai.onnx.ml", name): rule for name, rule in classical.RULES.items()},
    **{("com.microsoft", name): rule for name, (rule, _) in fused.RULES.items()},
}
"""The rule of every known operator, by domain and name."""

ATTRIBUTES: Mapping[tuple[str, str], frozenset[str]] = {
    ("com.microsoft", name): attributes for name, (_, attributes) in fused.RULES.items()
}
"""The attributes that an operator may have, where the file's checker does not know it."""

_BY_RANGE = "quantises by the range of all rows"
_BY_BRANCH = "contains a graph whose control flow may depend on other rows"

REASONS: Mapping[tuple[str, str], str] = {
    **{("", name): _BY_BRANCH for name in ("If", "Loop", "Scan", "SequenceMap")},
    ("", "DynamicQuantizeLinear"): _BY_RANGE,
    **{("com.microsoft", f"DynamicQuantize{what}"): _BY_RANGE for what in ("LSTM", "MatMul")},
}
"""Why some operators that people meet have no rule."""

BY_DATA = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators of ai.onnx whose number of results depends on the data."""

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators of ai.onnx that give other results each time."""
