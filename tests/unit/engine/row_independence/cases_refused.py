"""Graphs whose rows are not independent, or cannot be shown to be: none of them may be proven.

Names and inputs are as in ``cases``.
"""

from tests.unit.engine.row_independence.cases import FLOATS, IMAGES, Case, each
from tests.unit.engine.row_independence.cases_of_domains import TREE, VECTORS

COUNT = "shape = Shape(x) n = Gather(shape, zero)"
COUNTED = (
    "(float[N, 3] x) => (float[N, K] y) <int64[1] zero = {0}, int64[1] one = {1}, int64 o = {0}, int64 l = {1}> { "
)

BY_DATA = [
    Case("NonZero", "(float[N] x) => (int64[N, 1] y) { n = NonZero(x) y = Transpose(n) }"),
    Case("Compress", "(float[N, 3] x) => (float[N, 3] y) <bool[2] c = {0, 1}> { y = Compress<axis = 0>(x, c) }"),
    Case("Compress", "(bool[N] b, float[N, 3] x) => (float[N, 3] y) { y = Compress<axis = 0>(x, b) }"),
    Case("Unique", "(float[N] x) => (float[N] y) { y = Unique(x) }"),
    Case(
        "NonMaxSuppression",
        """(float[N, 4, 4] x, float[N, 1, 4] z) => (int64[N, 3] y) <int64 k = {3}>
        { y = NonMaxSuppression(x, z, k) }""",
    ),
    Case("TopK", "(float[N, 5] x, int64[1] k) => (float[N, 2] y, int64[N, 2] z) { y, z = TopK(x, k) }"),
    Case(
        "Range",
        """(float[N] x) => (float[N] y) <float o = {0}, float s = {1}> { l = ReduceMax<keepdims = 0>(x) y = Range(o,
            l, s) }""",
    ),
    Case("Expand", "(float[N, 3] x, int64[N] i) => (float[N, 3] y) { y = Expand(x, i) }"),
    Case("Reshape", "(float[N, 3] x, int64[N] i) => (float[N, 3] y) { y = Reshape(x, i) }"),
]

BY_RANGE = [
    Case(
        "DynamicQuantizeLinear",
        FLOATS.replace("float[N, 3] y", "uint8[N, 3] y") + "{ y, a, o = DynamicQuantizeLinear(x) }",
    ),
    Case(
        "MatMulIntegerToFloat",
        """(float[N, 3] x) => (float[N, 2] y) <uint8[3, 2] w = {1, 2, 3, 4, 5, 6}, float c = {0.1}>
        { q, a, o = DynamicQuantizeLinear(x) y = com.microsoft.MatMulIntegerToFloat(q, w, a, c, o) }""",
    ),
    Case(
        "DynamicQuantizeMatMul",
        """(float[N, 3] x) => (float[N, 2] y) <uint8[3, 2] w = {1, 2, 3, 4, 5, 6}, float c = {0.1}>
        { y = com.microsoft.DynamicQuantizeMatMul(x, w, c) }""",
    ),
    Case(
        "QuantizeLinear",
        """(float[N, 3] x) => (uint8[N, 3] y) <float k = {255}, uint8 o = {0}>
        { top = ReduceMax<keepdims = 0>(x) a = Div(top, k) y = QuantizeLinear(x, a, o) }""",
    ),
    Case(
        "QuantizeLinear",
        """(float[N, 3] x) => (uint8[N, 3] y) <float[2] a = {0.1, 0.2}, uint8[2] o = {0, 0}> { y =
            QuantizeLinear<axis = 0>(x, a, o) }""",
    ),
    Case(
        "QuantizeLinear",
        """(float[3, N] x) => (uint8[3, N] y) <float[3] a = {0.1, 0.2, 0.3}> { y = QuantizeLinear<axis = 0>(x, a) }""",
    ),
]

OVER_ROWS = [
    *each("ReduceSum ReduceMax", "(float[N, 3] x) => (float y) { y = OP<noop_with_empty_axes = 2>(x) }"),
    *each(
        "ReduceSum ReduceMax ReduceMean", "(float[N, 3] x) => (float[N, 3] y) { m = OP<keepdims = 1>(x) y = Sub(x, m) }"
    ),
    *each("ReduceSum ReduceMax", FLOATS + "<int64[1] a = {0}> { m = OP(x, a) y = Sub(x, m) }"),
    *each("ReduceSum ReduceMax", FLOATS + "<int64[1] a = {-2}> { m = OP(x, a) y = Sub(x, m) }"),
    *each("ReduceSum ReduceMax", FLOATS + "<int64[0] a = {}> { m = OP(x, a) y = Sub(x, m) }"),
    *each("ReduceMax ReduceMean", FLOATS + "{ m = OP<axes = [0]>(x) y = Sub(x, m) }", 12),
    *each("Softmax LogSoftmax Hardmax", FLOATS + "{ y = OP<axis = 0>(x) }"),
    *each("Softmax LogSoftmax Hardmax", FLOATS + "{ y = OP<axis = -2>(x) }"),
    *each("Softmax LogSoftmax Hardmax", FLOATS + "{ y = OP<axis = 0>(x) }", 11),
    *each("Softmax", "(float[N] x) => (float[N] y) { y = OP(x) }"),
    *each("ArgMax ArgMin", "(float[N, 3] x) => (float[N, 3] y) { m = OP(x) f = Cast<to = 1>(m) y = Add(x, f) }"),
    Case("CumSum", FLOATS + "<int64 axis = {0}> { y = CumSum(x, axis) }"),
    Case("CumSum", "(float[N, 3] x, int64 axis) => (float[N, 3] y) { y = CumSum(x, axis) }"),
    Case(
        "TopK",
        """(float[N, 5] x) => (float[N, 5] y, int64[N, 5] z) <int64[1] k = {2}> { y, z = TopK<axis = 0>(x, k) }""",
    ),
    Case("LayerNormalization", FLOATS + "<float[1, 3] s = {1, 1, 1}> { y = LayerNormalization<axis = 0>(x, s) }"),
    Case("LayerNormalization", FLOATS + "<float[2, 3] s = {1, 1, 1, 2, 2, 2}> { y = LayerNormalization(x, s) }"),
    Case("LpNormalization", FLOATS + "{ y = LpNormalization<axis = 0>(x) }"),
    Case("MeanVarianceNormalization", IMAGES + "{ y = MeanVarianceNormalization(x) }"),
    Case(
        "BatchNormalization",
        FLOATS + "<float[3] s = {1, 2, 3}> { y, m, v = BatchNormalization<training_mode = 1>(x, s, s, s, s) }",
    ),
    Case("BatchNormalization", FLOATS + "<float[3] s = {1, 2, 3}> { y, m, v = BatchNormalization(x, s, s, s, s) }", 9),
    Case(
        "LinearClassifier",
        """(float[N, 3] x) => (int64[N] y, float[N, 2] z) { y, z = ai.onnx.ml.LinearClassifier<coefficients =
            [1.0, 2.0, 3.0], intercepts = [0.5], classlabels_ints = [4, 7], post_transform = "PROBIT">(x) }""",
    ),
    Case(
        "TreeEnsembleClassifier",
        f"""(float[N, 3] x) => (int64[N] y, float[N, 2] z) {{ y, z = ai.onnx.ml.TreeEnsembleClassifier<{TREE},
            class_ids = [0, 0], class_nodeids = [1, 2], class_treeids = [0, 0], class_weights = [0.2, 0.9],
            classlabels_int64s = [4, 7], post_transform = "PROBIT">(x) }}""",
    ),
    Case(
        "SVMClassifier",
        f"""(float[N, 3] x) => (int64[N] y, float[N, 2] z) {{ y, z = ai.onnx.ml.SVMClassifier<{
            VECTORS.replace("n_supports = 2,", "")
        }, vectors_per_class = [1, 1], classlabels_ints = [4, 7],
            post_transform = "PROBIT">(x) }}""",
    ),
    Case("Normalizer", '(float[N] x) => (float[N] y) { y = ai.onnx.ml.Normalizer<norm = "L2">(x) }'),
    Case(
        "InstanceNormalization",
        """(float[N, 3] x) => (float[N, 3] y) <int64[2] a = {0, 2}, float[1] s = {1}>
        { u = Unsqueeze(x, a) norm = InstanceNormalization(u, s, s) y = Squeeze(norm, a) }""",
    ),
]

MEETING = [
    Case(
        "Add",
        """(float[N, 3] x) => (float[N, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}> { y = Add(x, w)
            }""",
    ),
    Case("Add", "(float[N, 1] x, float[N] z) => (float[N, K] y) { y = Add(x, z) }"),
    Case("Add", "(float[N, T] x, float[N] z) => (float[N, T] y) { y = Add(x, z) }"),
    Case("Add", "(float[N] x) => (float[N] y) <int64 z = {0}, float k = {1}> { f = Gather(x, z) y = Add(x, f) }"),
    Case("MatMul", "(float[N, 3] x) => (float[N, N2] y) { t = Transpose(x) y = MatMul(x, t) }"),
    Case("MatMul", "(float[N] x) => (float[N] y) { s = MatMul(x, x) y = Add(x, s) }"),
    Case("MatMul", "(float[N, 3] x) => (float[N, 3] y) { t = Transpose(x) g = MatMul(t, x) y = MatMul(x, g) }"),
    Case("MatMul", "(float[N, 3] x) => (float[N, 3] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(w, x) }"),
    Case(
        "Gemm",
        """(float[N, 3] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = Gemm<transA = 1>(x, w) }""",
    ),
    Case(
        "Gemm",
        """(float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2, 2] c = {1, 2, 3, 4}> { y
            = Gemm(x, w, c) }""",
    ),
    Case("Gemm", "(float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = Gemm(w, w, x) }"),
    Case("Einsum", '(float[N, 3] x) => (float[N, 3] y) { s = Einsum<equation = "nd->d">(x) y = Add(x, s) }'),
    Case("Einsum", '(float[N, 3] x) => (float[N, M] y) { y = Einsum<equation = "nd,md->nm">(x, x) }'),
    Case("Einsum", '(float[N, N] x) => (float[N] y) { y = Einsum<equation = "nn->n">(x) }'),
    Case(
        "Einsum",
        """(float[N, 3] x) => (float[N, 3] y) <float[2] w = {1, 2}> { y = Einsum<equation = "nd,n->nd">(x, w) }""",
    ),
    Case("Einsum", '(float[N, 3] x) => (float[N, 3] y) { y = Einsum<equation = "...d->...d">(x) }'),
    Case("PRelu", "(float[N, 3] x) => (float[N, 3] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}> { y = PRelu(x, w) }"),
    Case("Where", "(bool[N] b, float[N, T] x, float[N, T] z) => (float[N, T] y) { y = Where(b, x, z) }"),
    Case(
        "Conv",
        """(float[4, N, 6, 6] x) => (float[N, A, B, C] y) <int64[4] s = {2, 4, 3, 3}> { w = ConstantOfShape(s) t =
            Transpose<perm = [1, 0, 2, 3]>(x) y = Conv(t, w) }""",
    ),
    Case(
        "Conv",
        """(float[N, 4, 6] x) => (float[N, A, B] y) <int64[3] s = {2, 4, 3}, int64[1] a = {0}, int64[4] s4 = {2, 1,
            1, 1}> { w = ConstantOfShape(s4) u = Unsqueeze(x, a) c = Transpose<perm = [0, 2, 1, 3]>(u) p =
            MaxPool<kernel_shape = [2, 2], pads = [0, 0, 1, 1]>(c) d = Transpose<perm = [0, 2, 1, 3]>(p) y =
            Squeeze(d, a) }""",
    ),
    Case(
        "Conv",
        """(float[N, 4, 3, 3] x) => (float[N, 4, 3, 3] y) <int64[4] s = {1, 4, 3, 3}> { c = ConstantOfShape(s) k =
            Conv<pads = [1, 1, 1, 1]>(c, x) y = Add(x, k) }""",
    ),
    Case(
        "MaxPool",
        """(float[N, 4, 6, 6] x) => (float[N, 4, 5, 5] y, int64[N, 4, 5, 5] z) { y, z = MaxPool<kernel_shape = [2,
            2]>(x) }""",
    ),
    Case(
        "LSTM",
        """(float[N, 5, 3] x) => (float[N, 1, 5, 4] y) <int64[3] a = {1, 16, 3}, int64[3] b = {1, 16, 4}> { w =
            ConstantOfShape<value = float[1] {0.3}>(a) r = ConstantOfShape<value = float[1] {0.3}>(b) y =
            LSTM<hidden_size = 4>(x, w, r) }""",
    ),
    Case(
        "LSTM",
        """(float[N, 5, 3] x) => (float[N, 5, 4] y) <int64[3] a = {1, 16, 3}, int64[3] b = {1, 16, 4}, int64[1] g =
            {1}, int64[3] hs = {1, 2, 4}> { w = ConstantOfShape<value = float[1] {0.3}>(a) r = ConstantOfShape<value
            = float[1] {0.3}>(b) h = ConstantOfShape<value = float[1] {0.3}>(hs) t = Transpose<perm = [1, 0, 2]>(x) v
            = LSTM<hidden_size = 4>(t, w, r, , , h, h) q = Squeeze(v, g) y = Transpose<perm = [1, 0, 2]>(q) }""",
    ),
    Case(
        "GridSample",
        """(float[N, 4, 6, 6] x) => (float[N, 4, 1, 1] y) <float[2, 1, 1, 2] g = {0, 0, 0.5, 0.5}> { y =
            GridSample(x, g) }""",
    ),
    Case(
        "SkipLayerNormalization",
        """(float[N, 3, 4] x) => (float[N, 3, 4] y) <float[1, 3, 4] z = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3},
            float[4] s = {1, 2, 3, 4}> { y = com.microsoft.SkipLayerNormalization(x, z, s, s, s) }""",
    ),
    Case(
        "SkipLayerNormalization",
        """(float[N, 3, 4] x) => (float[N, 3, 4] y) <float[1, 3, 4] z = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3},
            float[4] s = {1, 2, 3, 4}> { n = com.microsoft.SkipLayerNormalization(z, x, s, s, s) y = Add(x, n) }""",
    ),
    Case(
        "FusedConv",
        """(float[N, 4, 6, 6] x) => (float[N, 2, 4, 4] y) <int64[4] s = {2, 4, 3, 3}, int64[4] zs = {2, 2, 4, 4}> {
            w = ConstantOfShape(s) z = ConstantOfShape(zs) y = com.microsoft.FusedConv(x, w, , z) }""",
    ),
    Case(
        "MultiHeadAttention",
        """(float[N, T, 8] x, float[N, S, 8] z, int32[N] m) => (float[N, T, 8] y) { y =
            com.microsoft.MultiHeadAttention<num_heads = 2>(x, z, z, , m) }""",
    ),
    Case(
        "Scaler",
        """(float[N] x) => (float[N, 3] y) <int64[1] a = {0}> { u = Unsqueeze(x, a) y = ai.onnx.ml.Scaler<offset =
            [1.0], scale = [2.0]>(u) }""",
    ),
    Case(
        "FeatureVectorizer",
        """(float[N] x) => (float[N, 1] y) { y = ai.onnx.ml.FeatureVectorizer<inputdimensions = [1]>(x) }""",
    ),
    Case(
        "ArrayFeatureExtractor",
        """(float[N] x) => (float[N, 1] y) <int64[1] a = {0}> { f = ai.onnx.ml.ArrayFeatureExtractor(x, a) y =
            Add(x, f) }""",
    ),
]

MOVING = [
    Case("Concat", "(float[N, 3] x) => (float[M, 3] y) { y = Concat<axis = 0>(x, x) }"),
    Case("Concat", "(float[N, 3] x) => (float[N, 4] y) <float[2, 1] w = {1, 2}> { y = Concat<axis = 1>(x, w) }"),
    Case("Gather", "(float[N, 3] x) => (float[M, 3] y) <int64[2] at = {0, 0}> { y = Gather<axis = 0>(x, at) }"),
    Case("Gather", "(float[N, 3] x, int64[N] i) => (float[N, 3] y) { y = Gather<axis = 0>(x, i) }"),
    Case(
        "GatherElements",
        """(float[N, 3] x, int64[N, 3] i) => (float[N, 3] y) { y = GatherElements<axis = 0>(x, i) }""",
    ),
    Case(
        "GatherElements",
        """(int64[N, 2] i) => (float[N, 2] y) <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = GatherElements<axis =
            1>(w, i) }""",
    ),
    Case("GatherND", "(float[N, 3] x, int64[N, 1] i) => (float[N, 3] y) { y = GatherND(x, i) }"),
    Case(
        "ScatterND",
        """(float[N, 3] x, int64[N, 1] i, float[N, 3] z) => (float[N, 3] y) { y = ScatterND(x, i, z) }""",
    ),
    Case(
        "ScatterElements",
        """(float[N, 3] x, int64[N, 3] i, float[N, 3] z) => (float[N, 3] y) { y = ScatterElements<axis = 0>(x, i, z)
            }""",
    ),
    Case(
        "Slice",
        """(float[N, 3] x) => (float[M, 3] y) <int64[1] a = {1}, int64[1] b = {100}> { y = Slice(x, a, b) }""",
    ),
    Case(
        "Slice",
        """(float[N, 3] x) => (float[N, 3] y) <int64[1] a = {-1}, int64[1] b = {-9223372036854775807}, int64[1] x0 =
            {0}> { y = Slice(x, a, b, x0, a) }""",
    ),
    Case("Slice", "(float[N, 3] x) => (float[M, 3] y) <int64[1] a = {0}, int64[1] b = {2}> { y = Slice(x, a, b) }"),
    Case("Slice", COUNTED + COUNT + " z = Slice(x, zero, n, one) y = Identity(z) }"),
    Case(
        "Split",
        """(float[N, 3] x) => (float[N, 3] y) { a, b = Split<num_outputs = 2>(x) y = Concat<axis = 0>(b, a) }""",
    ),
    Case("Pad", "(float[N, 3] x) => (float[M, 3] y) <int64[4] p = {1, 0, 0, 0}> { y = Pad(x, p) }"),
    Case("Pad", "(float[N, 3] x) => (float[M, 3] y) <int64[4] p = {-1, 0, 1, 0}> { y = Pad(x, p) }"),
    Case("Tile", "(float[N, 3] x) => (float[M, 3] y) <int64[2] t = {2, 1}> { y = Tile(x, t) }"),
    Case("Resize", IMAGES + "<float[4] s = {2, 1, 1, 1}> { y = Resize(x, , s) }"),
    Case("Resize", IMAGES + "<int64[4] s = {2, 4, 6, 6}> { y = Resize(x, , , s) }"),
    Case(
        "Resize",
        """(float[N, 4, 6, 6] x) => (float[N, A, B, C] y) <float[8] r = {0, 0, 0, 0, 1, 1, 0.5, 0.5}, float[4] s =
            {1, 1, 2, 2}> { y = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(x, r, s) }""",
    ),
    Case(
        "ReverseSequence",
        """(float[N, 3] x, int64[N] l) => (float[N, 3] y) { y = ReverseSequence<batch_axis = 1, time_axis = 0>(x, l)
            }""",
    ),
    Case("Squeeze", "(float[N, 1, 3] x) => (float[N, 3] y) { y = Squeeze(x) }"),
    Case("Transpose", "(float[N, 3] x) => (float[A, B] y) { y = Transpose(x) }"),
    Case(
        "Flatten",
        """(float[N, 3] x) => (float[N, 3] y) <int64[2] to = {-1, 3}> { f = Flatten<axis = 0>(x) s = Softmax(f) y =
            Reshape(s, to) }""",
    ),
    Case("Reshape", "(float[N, 6] x) => (float[M, 4] y) <int64[2] to = {-1, 4}> { y = Reshape(x, to) }"),
    Case("Reshape", "(float[N, 6] x) => (float[M, 3] y) <int64[2] to = {-1, 3}> { y = Reshape(x, to) }"),
    Case("Reshape", "(float[N, 6] x) => (float[N, 6] y) <int64[2] to = {4, 6}> { y = Reshape(x, to) }"),
    Case(
        "Reshape",
        """(float[N, 6] x) => (float[N, 6] y) <int64[2] a = {1, -1}, int64[2] b = {-1, 6}> { f = Reshape(x, a) s =
            Softmax(f) y = Reshape(s, b) }""",
    ),
    Case(
        "Reshape",
        """(float[N, 2, 3] x) => (float[N, 2, 3] y) <int64[2] a = {2, -1}, int64[3] b = {-1, 2, 3}> { f = Reshape(x,
            a) s = Softmax(f) y = Reshape(s, b) }""",
    ),
    Case(
        "Reshape",
        """(float[N, 2] x) => (float[N, 2] y) <int64[2] to = {2, -1}, int64[2] back = {-1, 2}> { t = Transpose(x) f
            = Reshape(t, back) y = Identity(f) }""",
    ),
    Case("Reshape", "(float[N, T] x) => (float[N, K] y) <int64[2] to = {-1, 2}> { y = Reshape(x, to) }"),
]

COUNTING = [
    Case(
        "Div",
        "(float[N, 3] x) => (float[N, 3] y) <int64[1] zero = {0}> { " + COUNT + " f = Cast<to = 1>(n) y = Div(x, f) }",
    ),
    Case(
        "Range",
        COUNTED
        + COUNT
        + " m = Squeeze(n, zero) at = Range(o, m, l) f = Cast<to = 1>(at) u = Unsqueeze(f, one) y = Add(x, u) }",
    ),
    Case("Expand", COUNTED + COUNT + " c = Concat<axis = 0>(n, n) e = Expand(x, c) y = Identity(e) }"),
    Case(
        "Expand",
        "(float[N, 3] x) => (float[N, 3] y) <float[2, 1] w = {1, 2}, int64[1] zero = {0}, int64[1] one = {1}> { "
        + COUNT
        + " c = Concat<axis = 0>(n, one) e = Expand(w, c) y = Add(x, e) }",
    ),
    Case("ConstantOfShape", COUNTED + COUNT + " c = Concat<axis = 0>(n, n) e = ConstantOfShape(c) y = MatMul(e, x) }"),
    Case("Tile", COUNTED + COUNT + " c = Concat<axis = 0>(one, n) y = Tile(x, c) }"),
    Case("Reshape", COUNTED + COUNT + " c = Concat<axis = 0>(one, n) e = Reshape(x, c) y = Identity(e) }"),
    Case("TopK", COUNTED + COUNT + " y, z = TopK(x, n) }"),
    Case(
        "OneHot",
        "(int64[N] i) => (float[N, K] y) <float[2] v = {0, 1}, int64[1] zero = {0}> { x = Identity(i) "
        + COUNT
        + " y = OneHot(i, n, v) }",
    ),
    Case(
        "Gather",
        "(float[N, 3] x) => (float[N, 3] y) <float[4] w = {1, 2, 3, 4}, int64[1] zero = {0}> { "
        + COUNT
        + " f = Gather(w, n) y = Add(x, f) }",
    ),
    Case(
        "Add",
        "(float[N, 3] x) => (float[N, 3] y) <int64[1] zero = {0}, int64[1] one = {1}> { "
        + COUNT
        + " m = Add(n, one) f = Cast<to = 1>(m) y = Add(x, f) }",
    ),
    Case(
        "Equal",
        "(float[N, 3] x) => (float[N, 3] y) <int64[1] zero = {0}, int64[1] one = {1}, float w = {0}> { "
        + COUNT
        + " alone = Equal(n, one) y = Where(alone, x, w) }",
    ),
    Case("Size", "(float[N, 3] x) => (float[N, 3] y) { n = Size(x) f = Cast<to = 1>(n) y = Div(x, f) }"),
    Case("EyeLike", "(float[N, 3] x) => (float[N, 3] y) { e = EyeLike(x) y = Add(x, e) }"),
    Case("Pad", COUNTED + COUNT + " p = Concat<axis = 0>(zero, n, zero, zero) y = Pad(x, p) }"),
]

BY_CHANCE = [
    *each("Bernoulli RandomNormalLike RandomUniformLike", FLOATS + "{ y = OP(x) }"),
    *each("RandomNormal RandomUniform", FLOATS + "{ r = OP<shape = [3]>() y = Add(x, r) }"),
    Case("Multinomial", "(float[N, 3] x) => (int32[N, 1] y) { y = Multinomial(x) }"),
    Case("Dropout", FLOATS + "<bool t = {1}, float r = {0.5}> { y = Dropout(x, r, t) }"),
    Case("Dropout", "(float[N, 3] x, bool t) => (float[N, 3] y) <float r = {0.5}> { y = Dropout(x, r, t) }"),
    Case(
        "Dropout",
        """(float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 2, 3}, bool t = {1}, float r = {0.5}>
            { d = Dropout(w, r, t) y = BatchNormalization(x, d, w, w, w) }""",
    ),
]

BRANCHES = [
    Case(
        "If",
        """(float[N, 3] x) => (float[N, 3] y) <float one = {1}, float many = {255}> {
            top = ReduceMax<keepdims = 0>(x) large = Greater(top, one)
            y = If (large) <then_branch = a () => (float[N, 3] p) { p = Div(x, many) },
                else_branch = b () => (float[N, 3] q) { q = Identity(x) }>
        }""",
    ),
    Case(
        "If",
        """(float[N, 3] x) => (float[N, 3] y) <bool c = {1}, float many = {255}> {
            y = If (c) <then_branch = a () => (float[N, 3] p) { p = Div(x, many) },
                else_branch = b () => (float[N, 3] q) { q = Identity(x) }>
        }""",
    ),
    Case(
        "Loop",
        """(float[N, 3] x) => (float[N, 3] y) <int64 times = {3}, bool go = {1}> {
            y = Loop (times, go, x) <body = b (int64 i, bool c, float[N, 3] v) => (bool d, float[N, 3] w)
                { d = Identity(c) w = Relu(v) }>
        }""",
    ),
    Case(
        "Scan",
        """(float[N, 3] x) => (float[N, 3] y) <float[3] s = {0, 0, 0}> {
            last, y = Scan <num_scan_inputs = 1, body = b (float[3] a, float[3] v) => (float[3] c, float[3] w)
                { c = Add(a, v) w = Identity(c) }> (s, x)
        }""",
    ),
]

OUTSIDE = [
    Case("Relu", "(float[4, 3] x) => (float[4, 3] y) { y = Relu(x) }"),
    Case("Relu", "(float x) => (float y) { y = Relu(x) }"),
    Case(
        "Relu",
        """(float[N, 3] x) => (float[N, 3] y, float[3] z) <float[3] w = {1, 2, 3}> { y = Relu(x) z = Identity(w) }""",
    ),
    Case("Shape", "(float[N, 3] x) => (int64[2] y) { y = Shape(x) }"),
    Case("Relu", FLOATS + "{ y = Relu(x) }", 6, runs=False),
    Case("Relu", FLOATS + "{ y = Relu(x) }", 27, runs=False),
    Case("Unknown", FLOATS + "{ y = com.example.Relu(x) }", runs=False),
    Case("Unknown", FLOATS + "{ y = com.microsoft.Irfft(x) }", runs=False),
    Case(
        "FusedGemm",
        """(float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y =
            com.microsoft.FusedGemm<other = 1>(x, w) }""",
        runs=False,
    ),
]

REFUSED = [*BY_DATA, *BY_RANGE, *OVER_ROWS, *MEETING, *MOVING, *COUNTING, *BY_CHANCE, *BRANCHES, *OUTSIDE]
