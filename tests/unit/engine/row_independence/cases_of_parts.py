"""More graphs as in ``cases``: operators that take parts, work on images, or step through sequences."""

from tests.unit.engine.row_independence.cases import IMAGES, Case, each

SELECTION = [
    Case("Gather", "(int64[N] i) => (float[N] y) <float[3] w = {1, 2, 3}> { y = Gather(w, i) }"),
    Case(
        "Gather",
        """(int64[N, T] i) => (float[N, T, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = Gather(w, i) }""",
    ),
    Case("Gather", "(float[N, 3] x) => (float[N, 2] y) <int64[2] at = {2, 0}> { y = Gather<axis = 1>(x, at) }"),
    Case("Gather", "(float[N, 3, 2] x) => (float[N, 3] y) <int64 at = {1}> { y = Gather<axis = -1>(x, at) }"),
    Case(
        "Gather",
        """(float[N, 3] x) => (float[N, 3] y) <int64[1] axes = {0}, int64 at = {0}>
        { u = Unsqueeze(x, axes) y = Gather<axis = 0>(u, at) }""",
    ),
    Case(
        "GatherElements",
        "(float[N, 3] x, int64[N, 2] i) => (float[N, 2] y) { y = GatherElements<axis = 1>(x, i) }",
    ),
    Case(
        "GatherND",
        "(float[N, 3, 2] x, int64[N, 1] i) => (float[N, 2] y) { y = GatherND<batch_dims = 1>(x, i) }",
    ),
    Case("GatherND", "(int64[N, 1] i) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = GatherND(w, i) }"),
    Case(
        "ScatterElements",
        """(float[N, 3] x, int64[N, 1] i, float[N, 1] z) => (float[N, 3] y)
        { y = ScatterElements<axis = 1>(x, i, z) }""",
    ),
    Case(
        "Slice",
        """(float[N, 5] x) => (float[N, 2] y) <int64[1] a = {1}, int64[1] b = {-1}, int64[1] axes = {1}, int64[1] s =
        {2}>
        { y = Slice(x, a, b, axes, s) }""",
    ),
    Case(
        "Slice",
        """(float[N, 5] x) => (float[N, 2] y) <int64[2] a = {0, 0}, int64[2] b = {1000000000, 2}>
        { y = Slice(x, a, b) }""",
    ),
    Case(
        "Slice",
        """(float[N, 5] x) => (float[N, 5] y) <int64[1] a = {-1}, int64[1] b = {-9223372036854775808}, int64[1] axes =
        {1},
        int64[1] s = {-1}, int64[2] to = {-1, 5}> { r = Slice(x, a, b, axes, s) y = Reshape(r, to) }""",
    ),
    Case("Slice", "(float[N, 5] x) => (float[N, 2] y) { y = Slice<axes = [1], starts = [1], ends = [3]>(x) }", 9),
    Case(
        "Split",
        """(float[N, 4] x) => (float[N, 2] y, float[N, 2] z) { y, z = Split<axis = 1, num_outputs = 2>(x) }""",
    ),
    Case(
        "Split",
        "(float[N, 4] x) => (float[N, 1] y, float[N, 3] z) <int64[2] p = {1, 3}> { y, z = Split<axis = 1>(x, p) }",
    ),
    Case(
        "Split",
        """(float[N, 4] x) => (float[N, 1] y, float[N, 3] z) { y, z = Split<axis = 1, split = [1, 3]>(x) }""",
        11,
    ),
    Case("Concat", "(float[N, 3] x, float[N, 2] z) => (float[N, 5] y) { y = Concat<axis = 1>(x, z) }"),
    Case("Pad", "(float[N, 3] x) => (float[N, 6] y) <int64[4] p = {0, 1, 0, 2}> { y = Pad(x, p) }"),
    Case(
        "Pad",
        """(float[N, 3] x) => (float[N, 6] y) <int64[2] p = {1, 2}, float v = {0.5}, int64[1] axes = {-1}>
        { y = Pad(x, p, v, axes) }""",
    ),
    Case("Pad", '(float[N, 3] x) => (float[N, 5] y) { y = Pad<pads = [0, 1, 0, 1], mode = "reflect">(x) }', 10),
    Case("OneHot", "(int64[N] i) => (float[N, 3] y) <int64 d = {3}, float[2] v = {0, 1}> { y = OneHot(i, d, v) }"),
    Case(
        "OneHot",
        """(int64[N] i) => (float[N, 3] y) <int64 d = {3}, float[2] v = {0, 1}>
        { h = OneHot<axis = 0>(i, d, v) y = Transpose(h) }""",
    ),
    Case(
        "ReverseSequence",
        """(float[N, 3] x, int64[N] l) => (float[N, 3] y)
        { y = ReverseSequence<batch_axis = 0, time_axis = 1>(x, l) }""",
    ),
]

FILTER = """<int64[4] shape = {2, 4, 3, 3}, float[2] bias = {0.5, -0.5}>
    { w = ConstantOfShape<value = float[1] {0.1}>(shape) """

IMAGE_OPERATORS = [
    Case("Conv", IMAGES + FILTER + "y = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, bias) }"),
    Case(
        "Conv",  # what comes behind a convolution is regrouped by its exact size
        """(float[N, 4, 6, 6] x) => (float[N, 32] y) <int64[4] shape = {2, 4, 3, 3}, int64[2] to = {-1, 32}>
        { w = ConstantOfShape<value = float[1] {0.1}>(shape) c = Conv(x, w) y = Reshape(c, to) }""",
    ),
    Case(
        "Conv",
        """(float[N, 4, 6, 6] x) => (float[N, 18] y) <int64[4] shape = {2, 4, 3, 3}, int64[2] to = {-1, 18}>
        {
            w = ConstantOfShape<value = float[1] {0.1}>(shape)
            c = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w) y = Reshape(c, to)
        }""",
    ),
    Case(
        "ConvTranspose",
        """(float[N, 4, 6, 6] x) => (float[N, C, H, W] y) <int64[4] shape = {4, 2, 3, 3}>
        { w = ConstantOfShape<value = float[1] {0.1}>(shape) y = ConvTranspose(x, w) }""",
    ),
    Case(
        "ConvInteger",
        """(uint8[N, 4, 6, 6] q) => (int32[N, C, H, W] y) <int64[4] shape = {2, 4, 3, 3}, uint8 o = {3}>
        { w = ConstantOfShape<value = uint8[1] {2}>(shape) y = ConvInteger(q, w, o, o) }""",
    ),
    Case(
        "QLinearConv",
        """(uint8[N, 4, 6, 6] q) => (uint8[N, C, H, W] y)
        <int64[4] shape = {2, 4, 3, 3}, float a = {0.1}, uint8 o = {3}, float[2] d = {0.1, 0.2}, uint8[2] p = {1, 1}>
        { w = ConstantOfShape<value = uint8[1] {2}>(shape) y = QLinearConv(q, a, o, w, d, p, a, o) }""",
    ),
    *each("MaxPool AveragePool LpPool", IMAGES + "{ y = OP<kernel_shape = [2, 2], strides = [2, 2]>(x) }"),
    Case(
        "MaxPool",
        """(float[N, 4, 6, 6] x) => (float[N, 36] y) <int64[2] to = {-1, 36}>
        { p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) y = Reshape(p, to) }""",
    ),
    *each("GlobalAveragePool GlobalMaxPool GlobalLpPool", IMAGES + "{ y = OP(x) }"),
    Case("DepthToSpace", IMAGES + "{ y = DepthToSpace<blocksize = 2>(x) }"),
    Case("SpaceToDepth", IMAGES + "{ y = SpaceToDepth<blocksize = 2>(x) }"),
    Case(
        "GridSample",
        """(float[N, 4, 6, 6] x, float[N, 3, 3, 2] z) => (float[N, 4, 3, 3] y) { y = GridSample(x, z) }""",
    ),
    Case("Resize", IMAGES + "<float[4] s = {1, 1, 2, 2}> { y = Resize(x, , s) }"),
    Case("Resize", IMAGES + '<float[4] s = {1, 1, 1.5, 2}> { y = Resize<mode = "linear">(x, , s) }', 13),
    Case("Resize", IMAGES + "<float[4] s = {1, 1, 2, 2}> { y = Resize(x, s) }", 10),
    Case("Resize", IMAGES + "<float[0] none = {}, float[4] s = {1, 1, 2, 2}> { y = Resize(x, none, s) }", 11),
    Case(
        "Resize",
        IMAGES
        + """<float[0] none = {}, int64[1] a = {0}, int64[1] b = {2}, int64[2] s = {9, 9}> {
            shape = Shape(x) front = Slice(shape, a, b) to = Concat<axis = 0>(front, s) y = Resize(x, none, none, to)
        }""",
        11,
    ),
    Case("Resize", IMAGES + "<int64[2] s = {9, 3}> { y = Resize<axes = [2, 3]>(x, , , s) }"),
    Case(
        "Resize",
        """(float[N, 4, 6, 6] x) => (float[N, 4, 9, 9] y) <int64[1] a = {0}, int64[1] b = {2}, int64[2] s = {9, 9}>
        {
            shape = Shape(x) front = Slice(shape, a, b) to = Concat<axis = 0>(front, s)
            y = Resize<mode = "linear">(x, , , to)
        }""",
    ),
    Case("Upsample", IMAGES + "<float[4] s = {1, 1, 2, 2}> { y = Upsample(x, s) }", 9),
]


STEPS = """<int64[3] ws = {1, GATES, 3}, int64[3] rs = {1, GATES, 4}, int64[1] axes = {1}>
    {
        w = ConstantOfShape<value = float[1] {0.3}>(ws) r = ConstantOfShape<value = float[1] {-0.2}>(rs)
        steps = Transpose<perm = [1, 0, 2]>(x) """

RECURRENT = [
    *(
        Case(
            operator,
            "(float[N, 5, 3] x) => (float[N, 5, 4] y)"
            + STEPS.replace("GATES", gates)
            + f"""all = {operator}<hidden_size = 4>(steps, w, r) few = Squeeze(all, axes)
            y = Transpose<perm = [1, 0, 2]>(few) }}""",
        )
        for operator, gates in (("RNN", "4"), ("GRU", "12"), ("LSTM", "16"))
    ),
    *(
        Case(
            operator,
            "(float[N, 5, 3] x, int64[N] l, float[N, 1, 4] z) => (float[N, 1, 4] y)"
            + STEPS.replace("GATES", gates)
            + f"""lengths = Cast<to = 6>(l) begin = Transpose<perm = [1, 0, 2]>(z)
            all, last = {operator}<hidden_size = 4>(steps, w, r, , lengths, begin)
            y = Transpose<perm = [1, 0, 2]>(last) }}""",
        )
        for operator, gates in (("RNN", "4"), ("GRU", "12"), ("LSTM", "16"))
    ),
    *(
        Case(
            operator,  # backwards too, each row from its own end
            """(float[N, 5, 3] x, int64[N] l) => (float[N, 2, 4] y)
            <int64[3] ws = {2, GATES, 3}, int64[3] rs = {2, GATES, 4}> {
                w = ConstantOfShape<value = float[1] {0.3}>(ws) r = ConstantOfShape<value = float[1] {-0.2}>(rs)
                steps = Transpose<perm = [1, 0, 2]>(x) lengths = Cast<to = 6>(l)
                all, last = OP<hidden_size = 4, direction = "bidirectional">(steps, w, r, , lengths)
                y = Transpose<perm = [1, 0, 2]>(last)
            }""".replace("GATES", gates).replace("OP", operator),
        )
        for operator, gates in (("RNN", "4"), ("GRU", "12"), ("LSTM", "16"))
    ),
    Case(
        "LSTM",  # as PyTorch exports it: a state of zeros for each row
        """(float[N, 5, 3] x) => (float[N, 2, 4] y) <int64[3] ws = {2, 16, 3}, int64[3] rs = {2, 16, 4}, int64 o = {0},
        int64[1] two = {2}, int64[1] four = {4}, int64[1] axes = {0}>
        {
            w = ConstantOfShape<value = float[1] {0.3}>(ws) r = ConstantOfShape<value = float[1] {-0.2}>(rs)
            steps = Transpose<perm = [1, 0, 2]>(x) shape = Shape(x) n = Gather(shape, o) n1 = Unsqueeze(n, axes)
            to = Concat<axis = 0>(two, n1, four) zeros = ConstantOfShape(to)
            all, h, c = LSTM<hidden_size = 4, direction = "bidirectional">(steps, w, r, , , zeros, zeros)
            y = Transpose<perm = [1, 0, 2]>(c)
        }""",
    ),
]

PROVEN = [*SELECTION, *IMAGE_OPERATORS, *RECURRENT]
