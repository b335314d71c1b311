"""More graphs as in ``cases``: operators of ai.onnx.ml and com.microsoft, and attention."""

from tests.unit.engine.row_independence.cases import FLOATS, TOKENS, Case

MATRIX = "(float[N, 3] x) => (float[N, K] y)"
TREE = """nodes_treeids = [0, 0, 0], nodes_nodeids = [0, 1, 2], nodes_featureids = [1, 0, 0],
    nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values = [0.1, 0.0, 0.0], nodes_truenodeids = [1, 0, 0],
    nodes_falsenodeids = [2, 0, 0]"""
VECTORS = """kernel_type = "RBF", kernel_params = [0.5, 0.0, 3.0], n_supports = 2,
    support_vectors = [1.0, 0.0, 0.5, 0.2, 1.0, 0.1], coefficients = [1.0, -1.0], rho = [0.1]"""


def ml(operator: str, attributes: str = "", graph: str = MATRIX, call: str = "y = {}(x)", version: int = 3) -> Case:
    made = call.format(f"ai.onnx.ml.{operator}{f'<{attributes}>' if attributes else ''}")
    return Case(operator, f"{graph} {{ {made} }}", ml=version)


CLASSES = "(float[N, 3] x) => (int64[N] y, float[N, K] z)"

CLASSICAL = [
    ml("Binarizer", "threshold = 0.1"),
    ml("Imputer", "imputed_value_floats = [1.0, 2.0, 3.0], replaced_value_float = 0.0"),
    ml("Normalizer", 'norm = "L2"'),
    ml("Scaler", "offset = [1.0, 2.0, 3.0], scale = [1.0, 2.0, 0.5]"),
    ml("LinearRegressor", "coefficients = [1.0, 2.0, 3.0], intercepts = [0.5], targets = 1"),
    ml(
        "LinearClassifier",
        """coefficients = [1.0, 2.0, 3.0, 0.0, 1.0, 0.0], intercepts = [0.5, 0.1], classlabels_ints = [4, 7],
        post_transform = "SOFTMAX" """,
        CLASSES,
        "y, z = {}(x)",
    ),
    ml("SVMRegressor", VECTORS),
    ml(
        "SVMClassifier",
        VECTORS.replace("n_supports = 2,", "") + ", vectors_per_class = [1, 1], classlabels_ints = [4, 7]",
        CLASSES,
        "y, z = {}(x)",
    ),
    ml(
        "TreeEnsembleRegressor",
        TREE
        + """, n_targets = 1, target_ids = [0, 0], target_nodeids = [1, 2], target_treeids = [0, 0], target_weights =
            [1.0, 2.0]""",
    ),
    ml(
        "TreeEnsembleClassifier",
        TREE
        + """, class_ids = [0, 0], class_nodeids = [1, 2], class_treeids = [0, 0], class_weights = [0.2, 0.9],
            classlabels_strings = ["a", "b"]""",
        "(float[N, 3] x) => (string[N] y, float[N, K] z)",
        "y, z = {}(x)",
    ),
    ml(
        "TreeEnsemble",
        """tree_roots = [0], nodes_featureids = [1], nodes_modes = uint8[1] {0}, nodes_splits = float[1] {0.1},
        nodes_truenodeids = [0], nodes_falsenodeids = [1], nodes_trueleafs = [1], nodes_falseleafs = [1],
        leaf_targetids = [0, 0], leaf_weights = float[2] {1.0, 2.0}, n_targets = 1""",
        version=5,
    ),
    ml(
        "LabelEncoder",
        'keys_int64s = [0, 1], values_strings = ["no", "yes"]',
        "(int64[N] i) => (string[N] y)",
        "y = {}(i)",
    ),
    ml(
        "CategoryMapper",
        'cats_int64s = [0, 1], cats_strings = ["a", "b"]',
        "(string[N, 2] s) => (int64[N, 2] y)",
        "y = {}(s)",
    ),
    ml("OneHotEncoder", "cats_int64s = [0, 1, 2]", "(int64[N, 2] i) => (float[N, 2, 3] y)", "y = {}(i)"),
    ml(
        "FeatureVectorizer",
        "inputdimensions = [3, 2]",
        "(float[N, 3] x, float[N, 2] z) => (float[N, 5] y)",
        "y = {}(x, z)",
    ),
    Case(
        "ArrayFeatureExtractor",
        "(float[N, 3] x) => (float[N, 2] y) <int64[2] at = {2, 0}> { y = ai.onnx.ml.ArrayFeatureExtractor(x, at) }",
    ),
    Case(
        "ArrayFeatureExtractor",  # as a label is looked up by the number of its class
        """(int64[N, 1] i) => (int64[N] y) <int64[2] labels = {4, 7}, int64[1] to = {-1}>
        { found = ai.onnx.ml.ArrayFeatureExtractor(labels, i) y = Reshape(found, to) }""",
    ),
    Case(
        "TfIdfVectorizer",
        """(int64[N, 3] i) => (float[N, K] y) {
            y = TfIdfVectorizer<mode = "TF", min_gram_length = 1, max_gram_length = 1, max_skip_count = 0,
            ngram_counts = [0], ngram_indexes = [0, 1], pool_int64s = [0, 1]>(i)
        }""",
    ),
]

SCALES = "float a = {0.1}, uint8 o = {7}"
SKIP = "(float[N, T, 4] x, float[N, T, 4] z) => (float[N, T, 4] y) <float[4] s = {1, 2, 3, 4}>"


def microsoft(operator: str, graph: str, call: str, runs: bool = True) -> Case:
    return Case(operator, f"{graph} {{ {call.replace('OP', f'com.microsoft.{operator}')} }}", runs=runs)


FUSED = [
    microsoft("BiasGelu", FLOATS + "<float[3] w = {1, 2, 3}>", "y = OP(x, w)"),
    microsoft("FastGelu", FLOATS + "<float[3] w = {1, 2, 3}>", "y = OP(x, w)"),
    microsoft("Gelu", FLOATS, "y = OP(x)"),
    microsoft("QuickGelu", FLOATS, "y = OP<alpha = 1.7>(x)"),
    microsoft("QuantizeLinear", f"(float[N, 3] x) => (uint8[N, 3] y) <{SCALES}>", "y = OP(x, a, o)"),
    microsoft("DequantizeLinear", f"(uint8[N, 3] q) => (float[N, 3] y) <{SCALES}>", "y = OP(q, a, o)"),
    *(
        microsoft(
            name, f"(uint8[N, 3] q, uint8[N, 3] r) => (uint8[N, 3] y) <{SCALES}>", "y = OP(q, a, o, r, a, o, a, o)"
        )
        for name in ("QLinearAdd", "QLinearMul")
    ),
    *(
        microsoft(name, f"(uint8[N, 3] q) => (uint8[N, 3] y) <{SCALES}>", "y = OP(q, a, o, a, o)")
        for name in ("QLinearLeakyRelu", "QLinearSigmoid")
    ),
    microsoft(
        "QLinearSoftmax",
        f"(uint8[N, 3] q) => (uint8[N, 3] y) <{SCALES}>",
        "y = OP<opset = 13, axis = -1>(q, a, o, a, o)",
    ),
    microsoft(
        "QLinearConcat",
        f"(uint8[N, 3] q, uint8[N, 2] r) => (uint8[N, 5] y) <{SCALES}>",
        "y = OP<axis = 1>(a, o, q, a, o, r, a, o)",
    ),
    microsoft(
        "QLinearGlobalAveragePool",
        f"(uint8[N, 4, 6, 6] q) => (uint8[N, 4, 1, 1] y) <{SCALES}>",
        "y = OP<channels_last = 0>(q, a, o, a, o)",
    ),
    microsoft(
        "QLinearConv",
        f"(uint8[N, 4, 6, 6] q) => (uint8[N, 2, 4, 4] y) <{SCALES}, int64[4] shape = {{2, 4, 3, 3}}>",
        "w = ConstantOfShape<value = uint8[1] {2}>(shape) y = OP(q, a, o, w, a, o, a, o)",
    ),
    microsoft(
        "QGemm",
        f"(uint8[N, 3] q) => (uint8[N, 2] y) <{SCALES}, uint8[3, 2] w = {{1, 2, 3, 4, 5, 6}}, int32[2] c = {{1, 2}}>",
        "y = OP(q, a, o, w, a, o, c, a, o)",
    ),
    microsoft(
        "MatMulIntegerToFloat",
        f"(uint8[N, 3] q) => (float[N, 2] y) <{SCALES}, uint8[3, 2] w = {{1, 2, 3, 4, 5, 6}}, float[2] c = {{1, 2}}>",
        "y = OP(q, w, a, a, o, o, c)",
    ),
    microsoft(
        "MatMulNBits",
        """(float[N, 16] x) => (float[N, 2] y) <int64[3] bs = {2, 1, 8}, float[2] s = {0.1, 0.2}>""",
        "w = ConstantOfShape<value = uint8[1] {57}>(bs) y = OP<K = 16, N = 2, bits = 4, block_size = 16>(x, w, s)",
    ),
    microsoft("FusedMatMul", "(float[N, 2, 3] x, float[N, 4, 3] z) => (float[N, 2, 4] y)", "y = OP<transB = 1>(x, z)"),
    microsoft(
        "FusedGemm",
        "(float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}>",
        'y = OP<activation = "Relu">(x, w)',
    ),
    microsoft(
        "FusedConv",
        """(float[N, 4, 6, 6] x, float[N, 2, 4, 4] z) => (float[N, 2, 4, 4] y) <int64[4] shape = {2, 4, 3, 3},
            float[2] c = {0, 1}>""",
        'w = ConstantOfShape<value = float[1] {0.1}>(shape) y = OP<activation = "Relu">(x, w, c, z)',
    ),
    microsoft("SimplifiedLayerNormalization", FLOATS + "<float[3] s = {1, 2, 3}>", "y = OP(x, s)", runs=False),
    microsoft("SkipLayerNormalization", SKIP, "y, , , sum = OP(x, z, s, s, s)"),
    microsoft("SkipSimplifiedLayerNormalization", SKIP, "y = OP(x, z, s)"),
    microsoft(
        "EmbedLayerNormalization",
        """(int32[N, 3] i, int32[N, 3] m) => (float[N, 3, 4] y, int32[N] z)
        <float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, float[4] s = {1, 2, 3, 4}>""",
        "y, z = OP(i, i, w, w, w, s, s, m)",
    ),
]

ATTENTION = [
    Case(
        "Attention",
        """(float[N, T, 8] x, float[N, S, 8] z) => (float[N, T, 8] y) { y = Attention<q_num_heads = 2, kv_num_heads
            = 2>(x, z, z) }""",
        23,
    ),
    Case(
        "Attention",
        """(float[N, 2, T, 4] x, float[N, 2, S, 4] z, float[N, 1, T, S] m) => (float[N, 2, T, 4] y)
        { y = Attention(x, z, z, m) }""",
        23,
    ),
    Case(
        "RotaryEmbedding",
        """(float[N, 2, 3, 4] x, int64[N, 3] i) => (float[N, 2, 3, 4] y) <float[3, 2] c = {1, 0.5, 0.2, 0.1, 0, 1}>
        { y = RotaryEmbedding(x, c, c, i) }""",
        23,
    ),
    Case(
        "com.microsoft.Attention",
        TOKENS
        + """<int64[2] ws = {8, 24}, int64[1] bs = {24}> {
            w = ConstantOfShape<value = float[1] {0.1}>(ws) b = ConstantOfShape<value = float[1] {0.1}>(bs)
            y = com.microsoft.Attention<num_heads = 2>(x, w, b)
        }""",
    ),
    Case(
        "com.microsoft.Attention",
        """(float[N, 3, 8] x, int64[N, 3] l) => (float[N, 3, 8] y) <int64[2] ws = {8, 24}, int64[1] bs = {24}> {
            w = ConstantOfShape<value = float[1] {0.1}>(ws) b = ConstantOfShape<value = float[1] {0.1}>(bs)
            m = Cast<to = 6>(l) y = com.microsoft.Attention<num_heads = 2, unidirectional = 1>(x, w, b, m)
        }""",
    ),
    Case(
        "MultiHeadAttention",
        """(float[N, T, 8] x, float[N, S, 8] z) => (float[N, T, 8] y) { y =
            com.microsoft.MultiHeadAttention<num_heads = 2>(x, z, z) }""",
    ),
]

PROVEN = [*CLASSICAL, *FUSED, *ATTENTION]
