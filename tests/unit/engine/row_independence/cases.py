"""One small graph for each operator that the proof knows, in ONNX's own text form, and for each way to fail.

N is the number of rows and T another free dimension. Inputs have these names because of what they are filled with, see
``feeds_for``: ``i`` indices of 0 and 1, ``l`` lengths from 1 to 3, ``q`` whole numbers, ``s`` texts, ``b``
truth values,
anything else numbers around 0.
"""

from dataclasses import dataclass

import onnx
import onnx.parser

HEAD = '<ir_version: 9, opset_import: ["": {opset}, "ai.onnx.ml": {ml}, "com.microsoft": 1]>\ng '


@dataclass(frozen=True, slots=True)
class Case:
    """A graph for one operator; not every operator is implemented by the runtime for every type (``runs``)."""

    operator: str
    graph: str
    opset: int = 18
    ml: int = 3
    runs: bool = True

    def model(self) -> onnx.ModelProto:
        return onnx.parser.parse_model(HEAD.format(opset=self.opset, ml=self.ml) + self.graph)

    def __str__(self) -> str:
        return f"{self.operator}-{self.opset}"


FLOATS = "(float[N, 3] x) => (float[N, 3] y)"
IMAGES = "(float[N, 4, 6, 6] x) => (float[N, C, H, W] y)"
PAIRS = "(float[N, 3] x, float[N, 3] z) => (float[N, 3] y)"
TRUTHS = "(bool[N, 3] b, bool[N, 3] c) => (bool[N, 3] y)"
WHOLES = "(int32[N, 3] i, int32[N, 3] j) => (int32[N, 3] y)"
TOKENS = "(float[N, T, 8] x) => (float[N, T, K] y)"


def each(names: str, graph: str, opset: int = 18) -> list[Case]:
    return [Case(name, graph.replace("OP", name), opset) for name in names.split()]


ELEMENTWISE = [
    *each(
        """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Identity
        LeakyRelu Log Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh
        ThresholdedRelu""",
        FLOATS + "{ y = OP(x) }",
    ),
    *each("Gelu", FLOATS + "{ y = OP(x) }", 20),
    *each("Swish", FLOATS + "{ y = OP(x) }", 24),
    *each("Add Sub Mul Div Pow PRelu Max Min Mean Sum", PAIRS + "{ y = OP(x, z) }"),
    *each("Max Min Mean Sum", FLOATS + "<float[3] w = {1, 2, 3}> { y = OP(x, w, x) }"),
    *each("And Or Xor", TRUTHS + "{ y = OP(b, c) }"),
    *each("BitwiseAnd BitwiseOr BitwiseXor Mod", WHOLES + "<int32 one = {1}> { k = Add(j, one) y = OP(i, k) }"),
    *each(
        "Equal Greater GreaterOrEqual Less LessOrEqual",
        "(float[N, 3] x, float[N, 3] z) => (bool[N, 3] y){ y = OP(x, z) }",
    ),
    Case("Add", "(float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }"),
    Case("Add", "(float[N, 3] x) => (float[N, 3] y) <float[1, 3] w = {1, 2, 3}> { y = Add(w, x) }"),
    Case("Add", "(float[N, 3] x, float[N, 1] z) => (float[N, 3] y) { y = Add(z, x) }"),
    Case("Add", "(float[N, T, 3] x, float[N, T, 1] z) => (float[N, T, 3] y) { y = Add(z, x) }"),
    Case(
        "BitShift",
        """(uint8[N, 3] q) => (uint8[N, 3] y) <uint8 k = {1}> { y = BitShift<direction = "LEFT">(q, k) }""",
    ),
    Case("BitwiseNot", "(int32[N, 3] i) => (int32[N, 3] y) { y = BitwiseNot(i) }"),
    Case("Cast", "(float[N, 3] x) => (int64[N, 3] y) { y = Cast<to = 7>(x) }"),
    Case("CastLike", "(float[N, 3] x, int64[N, 3] i) => (int64[N, 3] y) { y = CastLike(x, i) }"),
    Case("IsInf", "(float[N, 3] x) => (bool[N, 3] y) { y = IsInf(x) }"),
    Case("IsNaN", "(float[N, 3] x) => (bool[N, 3] y) { y = IsNaN(x) }"),
    Case("Not", "(bool[N, 3] b) => (bool[N, 3] y) { y = Not(b) }"),
    Case("Clip", FLOATS + "<float a = {-1.0}, float b = {1.0}> { y = Clip(x, a, b) }"),
    Case("Clip", FLOATS + "{ y = Clip<min = -1.0, max = 1.0>(x) }", 10),
    Case("Dropout", FLOATS + "{ y = Dropout(x) }"),
    Case("Dropout", FLOATS + "<bool t = {0}, float r = {0.5}> { y, mask = Dropout(x, r, t) }"),
    Case("Where", "(bool[N, 3] b, float[N, 3] x) => (float[N, 3] y) <float w = {0.5}> { y = Where(b, x, w) }"),
    Case("RegexFullMatch", '(string[N, 2] s) => (bool[N, 2] y) { y = RegexFullMatch<pattern = "a.*">(s) }', 20),
    Case("StringConcat", "(string[N] s) => (string[N] y) { y = StringConcat(s, s) }", 20),
    Case(
        "QuantizeLinear",
        "(float[N, 3] x) => (uint8[N, 3] y) <float a = {0.1}, uint8 o = {8}> { y = QuantizeLinear(x, a, o) }",
    ),
    Case(
        "QuantizeLinear",
        """(float[N, 3] x) => (uint8[N, 3] y) <float[3] a = {0.1, 0.2, 0.3}, uint8[3] o = {8, 0, 1}>
        { y = QuantizeLinear(x, a, o) }""",
    ),
    Case(
        "DequantizeLinear",
        "(uint8[N, 3] q) => (float[N, 3] y) <float[1] a = {0.1}, uint8[1] o = {8}> { y = DequantizeLinear(q, a, o) }",
    ),
]

PRODUCTS = [
    Case("MatMul", "(float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }"),
    Case("MatMul", "(float[N, 3] x) => (float[N] y) <float[3] w = {1, 2, 3}> { y = MatMul(x, w) }"),
    Case(
        "MatMul",
        """(float[N, T, 3] x) => (float[N, T, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }""",
    ),
    Case("MatMul", "(float[N, 2, 3] x, float[N, 3, 2] z) => (float[N, 2, 2] y) { y = MatMul(x, z) }"),
    Case(
        "MatMul",
        """(float[N, 3, 2] x) => (float[N, 2, 2] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(w, x) }""",
    ),
    Case(
        "MatMul",
        """(float[N, 3] x) => (float[N, 2] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}>
        { t = Transpose(x) p = MatMul(w, t) y = Transpose(p) }""",
    ),
    Case("Gemm", "(float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = Gemm(x, w) }"),
    Case(
        "Gemm",
        """(float[N, 3] x) => (float[N, 2] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[2] c = {1, 2}>
        { y = Gemm<transB = 1, alpha = 0.5>(x, w, c) }""",
    ),
    Case(
        "Gemm",
        """(float[N, 3] x, float[N, 1] z) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}>
        { t = Transpose(x) y = Gemm<transA = 1>(t, w, z) }""",
    ),
    Case(
        "MatMulInteger",
        """(uint8[N, 3] q) => (int32[N, 2] y) <int8[3, 2] w = {1, -2, 3, 4, 5, 6}, uint8 o = {7}, int8[2] p = {1, 2}>
        { y = MatMulInteger(q, w, o, p) }""",
    ),
    Case(
        "QLinearMatMul",
        """(uint8[N, 3] q) => (uint8[N, 2] y) <float a = {0.1}, uint8 o = {7}, uint8[3, 2] w = {1, 2, 3, 4, 5, 6},
        float[2] d = {0.1, 0.2}, uint8[2] p = {1, 2}> { y = QLinearMatMul(q, a, o, w, d, p, a, o) }""",
    ),
    Case("Einsum", '(float[N, 3] x, float[N, 3] z) => (float[N] y) { y = Einsum<equation = "nd,nd->n">(x, z) }'),
    Case(
        "Einsum",
        """(float[N, 2, 3] x) => (float[N, 4, 2] y) <float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>
        { y = Einsum<equation = "nij,jk->nki">(x, w) }""",
    ),
]

REDUCTIONS = [
    *each(
        """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
            ReduceSumSquare""",
        "(float[N, 3] x) => (float[N] y) <int64[1] axes = {-1}> { y = OP<keepdims = 0>(x, axes) }",
    ),
    *each(
        "ReduceL1 ReduceMax ReduceMean",
        "(float[N, 2, 3] x) => (float[N, 1, 1] y) { y = OP<axes = [1, 2]>(x) }",
        12,
    ),
    *each("ReduceSum ReduceMax", FLOATS + "{ y = OP<noop_with_empty_axes = 1>(x) }"),
    *each("ArgMax ArgMin", "(float[N, 3] x) => (int64[N] y) { y = OP<axis = 1, keepdims = 0>(x) }"),
    *each("Softmax LogSoftmax Hardmax", FLOATS + "{ y = OP(x) }"),
    *each("Softmax LogSoftmax Hardmax", "(float[N, 2, 3] x) => (float[N, 2, 3] y) { y = OP<axis = 1>(x) }"),
    *each("Softmax LogSoftmax Hardmax", "(float[N, 2, 3] x) => (float[N, 2, 3] y) { y = OP<axis = 2>(x) }", 11),
    *each("Softmax LogSoftmax Hardmax", FLOATS + "{ y = OP(x) }", 11),
    Case("CumSum", FLOATS + "<int64 axis = {1}> { y = CumSum<reverse = 1>(x, axis) }"),
    Case("CumProd", FLOATS + "<int64 axis = {1}> { y = CumProd(x, axis) }", 26, runs=False),
    Case("TopK", "(float[N, 5] x) => (float[N, 2] y, int64[N, 2] z) <int64[1] k = {2}> { y, z = TopK(x, k) }"),
    Case("TopK", "(float[N, 5] x) => (float[N, 2] y, int64[N, 2] z) { y, z = TopK<k = 2>(x) }", 9),
    Case(
        "LayerNormalization",
        FLOATS + "<float[3] s = {1, 2, 3}, float[3] c = {0, 1, 2}> { y = LayerNormalization(x, s, c) }",
    ),
    Case(
        "LayerNormalization",
        """(float[N, 2, 3] x) => (float[N, 2, 3] y, float[N, 1, 1] m) <float[2, 3] s = {1, 2, 3, 4, 5, 6}>
        { y, m = LayerNormalization<axis = 1>(x, s) }""",
    ),
    Case("RMSNormalization", FLOATS + "<float[3] s = {1, 2, 3}> { y = RMSNormalization(x, s) }", 23),
    Case("LpNormalization", FLOATS + "{ y = LpNormalization(x) }"),
    Case("MeanVarianceNormalization", IMAGES + "{ y = MeanVarianceNormalization<axes = [1, 2, 3]>(x) }"),
    Case(
        "BatchNormalization",
        FLOATS + "<float[3] s = {1, 2, 3}, float[3] v = {1, 2, 1}> { y = BatchNormalization(x, s, s, s, v) }",
    ),
    Case(
        "BatchNormalization",
        IMAGES + "<float[4] s = {1, 2, 3, 1}, float[4] v = {1, 2, 1, 1}> { y = BatchNormalization(x, s, s, s, v) }",
        9,
    ),
    Case("InstanceNormalization", IMAGES + "<float[4] s = {1, 2, 3, 1}> { y = InstanceNormalization(x, s, s) }"),
    Case(
        "GroupNormalization",
        IMAGES + "<float[4] s = {1, 2, 3, 1}> { y = GroupNormalization<num_groups = 2>(x, s, s) }",
        21,
    ),
    Case("LRN", IMAGES + "{ y = LRN<size = 3>(x) }"),
    Case("Trilu", "(float[N, 3, 3] x) => (float[N, 3, 3] y) { y = Trilu(x) }"),
]

LAYOUT = [
    Case(
        "Constant",
        """(float[N, 3] x) => (float[N, 3] y) { c = Constant<value_floats = [1.0, 2.0, 3.0]>() y = Add(x, c) }""",
    ),
    Case("Transpose", "(float[N, 2, 3] x) => (float[N, 3, 2] y) { y = Transpose<perm = [0, 2, 1]>(x) }"),
    Case(
        "Transpose",
        """(float[N, 2, 3] x) => (float[N, 3, 2] y) { t = Transpose(x) y = Transpose<perm = [2, 0, 1]>(t) }""",
    ),
    Case("Flatten", "(float[N, 2, 3] x) => (float[N, 6] y) { y = Flatten(x) }"),
    Case(
        "Flatten",
        """(float[N, 2, 3] x) => (float[N, 2, 3] y) <int64[3] to = {-1, 2, 3}> { f = Flatten<axis = 2>(x) y =
            Reshape(f, to) }""",
    ),
    Case("Reshape", "(float[N, 2, 3] x) => (float[N, 6] y) <int64[2] to = {0, -1}> { y = Reshape(x, to) }"),
    Case("Reshape", "(float[N, 2, 3] x) => (float[N, 3, 2] y) <int64[3] to = {-1, 3, 2}> { y = Reshape(x, to) }"),
    Case(
        "Reshape",
        """(float[N, T, 6] x) => (float[N, T, 2, 3] y) <int64[4] to = {0, 0, 2, -1}> { y = Reshape(x, to) }""",
    ),
    Case(
        "Reshape",
        """(float[N, T, 6] x) => (float[N, T, 6] y) <int64[2] to = {-1, 6}, float[6] w = {1, 2, 3, 4, 5, 6}>
        { flat = Reshape(x, to) sum = Add(flat, w) shape = Shape(x) y = Reshape(sum, shape) }""",
    ),
    Case(
        "Reshape",  # as nn.MultiheadAttention is exported: rows and heads go together, then places and rows
        """(float[N, T, 4] t) => (float[N, T, 4] y) <int64[1] o = {0}, int64[1] one = {1}, int64[1] two = {2},
        int64[1] four = {4}, float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}>
        {
            x = Transpose<perm = [1, 0, 2]>(t)
            shape = Shape(x) n = Gather(shape, one) len = Gather(shape, o) heads = Mul(n, two)
            split = Concat<axis = 0>(len, heads, two) parts = Reshape(x, split)
            turned = Transpose<perm = [1, 0, 2]>(parts) soft = Softmax<axis = -1>(turned)
            back = Transpose<perm = [1, 0, 2]>(soft) lines = Mul(len, n)
            flat_to = Concat<axis = 0>(lines, four) flat = Reshape(back, flat_to) product = MatMul(flat, w)
            whole_to = Concat<axis = 0>(len, n, four) whole = Reshape(product, whole_to)
            y = Transpose<perm = [1, 0, 2]>(whole)
        }""",
    ),
    Case(
        "Reshape",  # as PyTorch's GroupNorm is exported
        """(float[N, 4, H, W] x) => (float[N, 4, H, W] y) <int64[3] to = {0, 2, -1},
        float[2] one = {1, 1}, float[2] o = {0, 0}> {
            groups = Reshape(x, to) norm = InstanceNormalization(groups, one, o) shape = Shape(x)
            y = Reshape(norm, shape)
        }""",
    ),
    Case(
        "Reshape",  # as attention is exported with its sizes taken from its input, and a mask of the callers
        """(float[N, T, 4] x, int64[N, T] i) => (float[N, T, 4] y)
        <int64[1] o = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4}, int64[2] axes = {1, 2},
        float far = {-10000}, float full = {1}>
        {
            shape = Shape(x) n = Gather(shape, o) t = Gather(shape, one)
            split = Concat<axis = 0>(n, t, two, two) parts = Reshape(x, split)
            q = Transpose<perm = [0, 2, 1, 3]>(parts) k = Transpose<perm = [0, 2, 3, 1]>(parts)
            products = MatMul(q, k) seen = Unsqueeze(i, axes) number = Cast<to = 1>(seen) rest = Sub(full, number)
            mask = Mul(rest, far) scores = Add(products, mask) weights = Softmax<axis = -1>(scores)
            mixed = MatMul(weights, q) back = Transpose<perm = [0, 2, 1, 3]>(mixed)
            whole = Concat<axis = 0>(n, t, four) y = Reshape(back, whole)
        }""",
    ),
    Case("Squeeze", "(float[N, 1, 3] x) => (float[N, 3] y) <int64[1] axes = {1}> { y = Squeeze(x, axes) }"),
    Case("Squeeze", "(float[N, 1, 3] x) => (float[N, 3] y) { y = Squeeze<axes = [-2]>(x) }", 11),
    Case("Unsqueeze", "(float[N, 3] x) => (float[N, 1, 3] y) <int64[1] axes = {1}> { y = Unsqueeze(x, axes) }"),
    Case(
        "Unsqueeze",
        """(float[N, 3] x) => (float[N, 3] y) <int64[2] axes = {0, -1}, int64[2] gone = {0, 3}>
        { u = Unsqueeze(x, axes) y = Squeeze(u, gone) }""",
    ),
    Case(
        "Expand",
        "(float[N, 1, 3] x) => (float[N, 2, 3] y) <int64[3] to = {1, 2, 1}> { y = Expand(x, to) }",
    ),
    Case(
        "Expand",  # a token that is put before each row
        """(float[N, 2, 3] x) => (float[N, 3, 3] y) <int64[1] o = {0}, int64[2] inner = {1, 3}, float[1, 1, 3] w = {1,
        2, 3}>
        {
            shape = Shape(x) n = Gather(shape, o) to = Concat<axis = 0>(n, inner) token = Expand(w, to)
            y = Concat<axis = 1>(token, x)
        }""",
    ),
    Case(
        "Expand",  # as PyTorch's expand is exported
        """(float[N, 2, 3] x) => (float[N, 3, 3] y) <int64 o = {0}, int64[1] at = {0}, int64[2] inner = {1, 3},
        float[1, 1, 3] w = {1, 2, 3}, int64[1] length = {3}, int64 minus = {-1}>
        {
            shape = Shape(x) scalar = Gather(shape, o) n = Unsqueeze(scalar, at) to = Concat<axis = 0>(n, inner)
            ones = ConstantOfShape<value = int64[1] {1}>(length) keep = Mul(ones, minus) same = Equal(to, keep)
            target = Where(same, ones, to) token = Expand(w, target) y = Concat<axis = 1>(token, x)
        }""",
    ),
    Case("Tile", "(float[N, 3] x) => (float[N, 6] y) <int64[2] times = {1, 2}> { y = Tile(x, times) }"),
    Case(
        "Tile",
        """(float[N, 3] x) => (float[N, 3] y) <int64[1] o = {0}, int64[1] one = {1}, float[1, 3] w = {1, 2, 3}>
        { shape = Shape(x) n = Gather(shape, o) times = Concat<axis = 0>(n, one) t = Tile(w, times) y = Add(x, t) }""",
    ),
    Case(
        "ConstantOfShape",
        """(float[N, 3] x) => (float[N, 5] y) <int64[1] o = {0}, int64[1] two = {2}>
        {
            shape = Shape(x) n = Gather(shape, o) to = Concat<axis = 0>(n, two)
            zeros = ConstantOfShape(to) y = Concat<axis = 1>(x, zeros)
        }""",
    ),
    Case("Shape", "(float[N, T] x) => (float[N, T] y) { shape = Shape(x) f = Flatten(x) y = Reshape(f, shape) }"),
    Case(
        "Size",
        """(float[N, T] x) => (float[N, T] y) <int64[1] to = {-1}, int64[1] axes = {0}>
        { size = Size(x) lines = Unsqueeze(size, axes) flat = Reshape(x, lines) shape = Shape(x) y = Reshape(flat,
        shape) }""",
    ),
    Case(
        "Range",  # positions in a row of unknown length
        """(float[N, T] x) => (float[N, T] y) <int64 one = {1}, int64 o = {0}, int64 step = {1}, int64[1] axes = {0}>
        {
            shape = Shape(x) t = Gather(shape, one) at = Range(o, t, step) places = Cast<to = 1>(at)
            row = Unsqueeze(places, axes) y = Add(x, row)
        }""",
    ),
]

PROVEN = [*ELEMENTWISE, *PRODUCTS, *REDUCTIONS, *LAYOUT]
