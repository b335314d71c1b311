"""The model zoo of the acceptance suite: small seeded ONNX models and the folders they are served from."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Dims = Sequence[int | str]

ONNX_TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}
"""Every datatype of the protocol and the ONNX element type that carries it."""

LABELS = ("ash", "birch", "cedar", "douglas fir")
SLOW_STEPS, FEW_STEPS = 80, 6
"""Matrix products one answer of the model ``slow`` takes, a few tenths of a second on one core, and at least takes."""

UNAVAILABLE = {
    "broken": "a file that is not an ONNX graph",
    "cut_short": "a graph whose file ends too early",
    "empty_version": "a version folder without a graph",
    "sequence_out": "an output that is not a tensor",
    "refused_gpu": "an instance group on a GPU",
    "refused_backend": "another backend",
    "refused_platform": "another platform",
    "refused_syntax": "a configuration that does not parse",
    "refused_field": "a configuration field that does not exist",
    "refused_dims": "dims that contradict the graph",
    "refused_type": "a data type that contradicts the graph",
    "refused_name": "a configuration of another name",
    "refused_labels": "a label file outside the model's folder",
    "refused_decoupled": "a decoupled transaction policy",
    "refused_sequence": "sequence batching",
    "refused_ensemble": "ensemble scheduling",
    "refused_warmup": "a warm-up request the model cannot answer",
}
"""Models that must be reported by name and must not stop the others, and why."""


def value(name: str, datatype: str, dims: Dims) -> onnx.ValueInfoProto:
    """A graph input or output of a protocol datatype."""
    return helper.make_tensor_value_info(name, ONNX_TYPES[datatype], list(dims))


def constant(name: str, array: Array) -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(array, name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A checked model of operator set 21."""
    graph = helper.make_graph(list(nodes), "zoo", list(inputs), list(outputs), list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    made.ir_version = 10
    return made


def weights(*shape: int, seed: int = 7, scale: float = 0.5) -> Array:
    """Seeded FP32 weights."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def rotation(size: int, seed: int = 7) -> Array:
    """Seeded FP32 weights that keep the length of what they are multiplied with: it neither fades nor grows."""
    normal: Array = np.random.default_rng(seed).standard_normal((size, size))
    return np.linalg.qr(normal)[0].astype(np.float32)


def identity(datatype: str, dims: Dims = ("n", "m")) -> onnx.ModelProto:
    """``y = x`` for one datatype."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], [value("x", datatype, dims)], [value("y", datatype, dims)])


def affine(scale: float, shift: float, dims: Dims) -> onnx.ModelProto:
    """``y = scale * x + shift`` in FP32."""
    nodes = [helper.make_node("Mul", ["x", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "shift"], ["y"])]
    numbers = [constant("scale", np.array(scale, np.float32)), constant("shift", np.array(shift, np.float32))]
    return model(nodes, [value("x", "FP32", dims)], [value("y", "FP32", dims)], numbers)


def widening(columns: int) -> onnx.ModelProto:
    """Rows of one number to rows of so many: small requests with large answers."""
    node = helper.make_node("Mul", ["x", "ones"], ["y"])
    numbers = [constant("ones", np.ones((1, columns), np.float32))]
    return model([node], [value("x", "FP32", ("n", 1))], [value("y", "FP32", ("n", columns))], numbers)


def versioned(version: int) -> onnx.ModelProto:
    """A model whose answers show its version: ``y = version * x + version``."""
    return affine(version, version, ("n", 3))


def unary(operator: str, dims: Dims, out_dims: Dims, **attributes: Any) -> onnx.ModelProto:
    """One FP32 operator from ``x`` to ``y``."""
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    return model([node], [value("x", "FP32", dims)], [value("y", "FP32", out_dims)])


def binary(operator: str, datatype: str) -> onnx.ModelProto:
    """One operator on two vectors ``a`` and ``b``."""
    node = helper.make_node(operator, ["a", "b"], ["y"])
    return model([node], [value("a", datatype, ("n",)), value("b", datatype, ("n",))], [value("y", datatype, ("n",))])


def mixed() -> onnx.ModelProto:
    """Two inputs and three outputs of different types that share their batch dimension."""
    nodes = [
        helper.make_node("Mul", ["number", "two"], ["doubled"]),
        helper.make_node("Add", ["key", "one"], ["next"]),
        helper.make_node("Greater", ["number", "zero"], ["positive"]),
    ]
    numbers = [
        constant("two", np.array(2, np.float32)),
        constant("one", np.array(1, np.int64)),
        constant("zero", np.array(0, np.float32)),
    ]
    inputs = [value("number", "FP32", ("n", 3)), value("key", "INT64", ("n", 2))]
    outputs = [
        value("doubled", "FP32", ("n", 3)),
        value("next", "INT64", ("n", 2)),
        value("positive", "BOOL", ("n", 3)),
    ]
    return model(nodes, inputs, outputs, numbers)


def odd_names() -> onnx.ModelProto:
    """Tensor names with spaces, quotes, slashes and letters beyond ASCII."""
    node = helper.make_node("Neg", ['in put/"ä":0'], ["out\tput\\ß"])
    return model([node], [value('in put/"ä":0', "FP32", ("n",))], [value("out\tput\\ß", "FP32", ("n",))])


def logistic(features: int = 30) -> onnx.ModelProto:
    """Logistic regression: FP32 [n, features] to a probability."""
    nodes = [
        helper.make_node("Gemm", ["x", "weight", "bias"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["probability"]),
    ]
    numbers = [constant("weight", weights(features, 1)), constant("bias", weights(1, seed=8))]
    return model(nodes, [value("x", "FP32", ("n", features))], [value("probability", "FP32", ("n", 1))], numbers)


def classifier(seed: int = 11) -> onnx.ModelProto:
    """Softmax over four classes from five features, and the winner's number."""
    nodes = [
        helper.make_node("Gemm", ["x", "weight", "bias"], ["score"]),
        helper.make_node("Softmax", ["score"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["winner"], axis=1, keepdims=0),
    ]
    numbers = [constant("weight", weights(5, 4, seed=seed)), constant("bias", weights(4, seed=seed + 1))]
    outputs = [value("probabilities", "FP32", ("n", 4)), value("winner", "INT64", ("n",))]
    return model(nodes, [value("x", "FP32", ("n", 5))], outputs, numbers)


def mlp(sizes: Sequence[int] = (64, 256, 256, 10)) -> onnx.ModelProto:
    """A multi-layer perceptron."""
    nodes, numbers, last = [], [], "x"
    for layer, (rows, columns) in enumerate(pairwise(sizes)):
        numbers += [constant(f"w{layer}", weights(rows, columns, seed=layer, scale=0.1))]
        numbers += [constant(f"b{layer}", weights(columns, seed=50 + layer, scale=0.1))]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"h{layer}"]))
        nodes.append(helper.make_node("Relu", [f"h{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    nodes[-1].output[0] = "y"
    return model(nodes, [value("x", "FP32", ("n", sizes[0]))], [value("y", "FP32", ("n", sizes[-1]))], numbers)


def gather() -> onnx.ModelProto:
    """Looks ``index`` up in a table of four; an index out of range fails at run time."""
    node = helper.make_node("Gather", ["table", "index"], ["y"])
    table = constant("table", np.array([10, 20, 30, 40], np.float32))
    return model([node], [value("index", "INT64", ("n",))], [value("y", "FP32", ("n",))], [table])


def _loop_body(size: int) -> onnx.GraphProto:
    nodes = [
        helper.make_node("MatMul", ["state_in", "square"], ["product"]),
        helper.make_node("Tanh", ["product"], ["state_out"]),
        helper.make_node("Identity", ["go_in"], ["go_out"]),
    ]
    inputs = [value("step", "INT64", ()), value("go_in", "BOOL", ()), value("state_in", "FP32", (size, size))]
    outputs = [value("go_out", "BOOL", ()), value("state_out", "FP32", (size, size))]
    return helper.make_graph(nodes, "body", inputs, outputs)


def looping(steps: int | None, size: int = 512) -> onnx.ModelProto:
    """Multiplies matrices ``steps`` times; with None the caller says how often, in the INT64 scalar ``steps``.

    The values stay normal numbers: some processors take a hundred times as long for denormal ones.
    """
    inputs = [value("x", "FP32", (1,))]
    if steps is None:
        return _loop([], [*inputs, value("steps", "INT64", ())], [], size)
    return _loop([], inputs, [constant("steps", np.array(steps, np.int64))], size)


def slow() -> onnx.ModelProto:
    """Takes some tenths of a second for an ``x`` of 1 and more, and less for a smaller one: warm-up and admission run a
    dozen of those for each worker.
    """
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "one"], ["asked"]),
        helper.make_node("Cast", ["asked"], ["factor"], to=TensorProto.INT64),
        helper.make_node("Mul", ["factor", "more"], ["added"]),
        helper.make_node("Add", ["added", "few"], ["steps"]),
    ]
    numbers = [
        constant("one", np.array([1], np.float32)),
        constant("more", np.array([SLOW_STEPS - FEW_STEPS], np.int64)),
        constant("few", np.array([FEW_STEPS], np.int64)),
    ]
    return _loop(nodes, [value("x", "FP32", (1,))], numbers, 512)


def _loop(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    numbers: Sequence[onnx.TensorProto],
    size: int,
) -> onnx.ModelProto:
    """Products of matrices, as many as ``steps`` says, which the nodes, inputs or numbers hold."""
    all_nodes = [
        *nodes,
        helper.make_node("Add", ["square", "x"], ["first"]),
        helper.make_node("Loop", ["steps", "", "first"], ["last"], body=_loop_body(size)),
        helper.make_node("ReduceMean", ["last"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "x"], ["y"]),
    ]
    square = constant("square", rotation(size))
    return model(all_nodes, inputs, [value("y", "FP32", (1,))], [square, *numbers])


def nonzero() -> onnx.ModelProto:
    """Positions of what is not zero: an output that may have no element."""
    node = helper.make_node("NonZero", ["x"], ["y"])
    return model([node], [value("x", "FP32", ("n",))], [value("y", "INT64", (1, "k"))])


def sequence_out() -> onnx.ModelProto:
    """An output that is a sequence, which the protocol cannot carry."""
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["n"])
    return model([node], [value("x", "FP32", ("n",))], [output])


FLAT: dict[str, Callable[[], onnx.ModelProto]] = {
    **{f"identity_{name.lower()}": partial(identity, name) for name in ONNX_TYPES},
    "scalar": lambda: affine(2.0, 1.0, ()),
    "vector": lambda: affine(0.5, 0.25, ("n",)),
    "counted": lambda: identity("FP32", ("n", 3)),
    "static": lambda: unary("Transpose", (2, 3), (3, 2)),
    "fixed_batch": lambda: unary("Softmax", (4, 3), (4, 3), axis=1),
    "cube": lambda: unary("Transpose", ("a", "b", 4), (4, "b", "a"), perm=[2, 1, 0]),
    "log": lambda: unary("Log", ("n",), ("n",)),
    "mixed": mixed,
    "odd_names": odd_names,
    "concat": lambda: binary("StringConcat", "BYTES"),
    "divide": lambda: binary("Div", "INT32"),
    "logistic": logistic,
    "mlp": mlp,
    "gather": gather,
    "nonzero": nonzero,
    "slow": slow,
    "steps": lambda: looping(None),
    "sequence_out": sequence_out,
}
"""Models that lie in the folder as ``name.onnx``."""


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Write a model file, making its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString())


def place(root: Path, name: str, versions: dict[str, onnx.ModelProto], config: str = "") -> Path:
    """Write one model in Triton's layout; returns its folder."""
    for version, graph in versions.items():
        save(graph, root / name / version / "model.onnx")
    if config:
        (root / name / "config.pbtxt").write_text(config)
    return root / name


def build(root: Path) -> Path:
    """Write the whole zoo into an empty folder."""
    for name, make in FLAT.items():
        save(make(), root / f"{name}.onnx")
    _place_versions(root)
    _place_configured(root)
    _place_files(root)
    _place_broken(root)
    _place_refused(root)
    return root


def build_tiny(root: Path) -> Path:
    """Write a few harmless models: for the servers that are fuzzed, killed and counted."""
    save(logistic(), root / "logistic.onnx")
    save(mixed(), root / "mixed.onnx")
    save(slow(), root / "slow.onnx")
    for datatype in ("FP32", "INT64", "BOOL", "BYTES", "FP16"):
        save(identity(datatype), root / f"identity_{datatype.lower()}.onnx")
    place(root, "pair", {"1": versioned(1), "2": versioned(2)})
    return root


def _place_versions(root: Path) -> None:
    three = {str(number): versioned(number) for number in (1, 2, 3)}
    place(root, "pair", {"1": versioned(1), "2": versioned(2)})
    place(root, "counts_to_ten", {"2": versioned(2), "10": versioned(10)})
    place(root, "semantic", {"1.4.0": versioned(4), "1.10.0": versioned(10)})
    place(root, "policy_latest", three, "version_policy: { latest { num_versions: 1 } }\n")
    place(root, "policy_latest_two", three, "version_policy: { latest { num_versions: 2 } }\n")
    place(root, "policy_specific", three, "version_policy: { specific { versions: [ 1, 3 ] } }\n")
    place(root, "policy_all", three, "version_policy: { all { } }\n")


LABELLED_CONFIG = """
name: "labelled"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 5 ] } ]
output [
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" },
  { name: "winner" data_type: TYPE_INT64 dims: [ 1 ] reshape: { shape: [ ] } }
]
"""

BATCHED_CONFIG = """
backend: "onnxruntime"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "y" data_type: TYPE_FP32 dims: 3 }
dynamic_batching { max_queue_delay_microseconds: 100 }
instance_group [ { count: 1 kind: KIND_CPU } ]
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
optimization { graph { level: 1 } }
model_warmup [
  { name: "zeros" batch_size: 2 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] zero_data: true } } },
  { name: "noise" batch_size: 1 count: 3
    inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] random_data: true } } },
  { name: "file" batch_size: 1
    inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] input_data_file: "x.bin" } } }
]
"""

NARROW_CONFIG = """
backend: "onnxruntime"
dynamic_batching { default_queue_policy { max_queue_size: 2 } }
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
HASTY_CONFIG = """
backend: "onnxruntime"
dynamic_batching { default_queue_policy { default_timeout_microseconds: 300000 } }
instance_group [ { count: 1 kind: KIND_CPU } ]
"""

RESHAPED_CONFIG = """
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } } ]
"""


def _place_configured(root: Path) -> None:
    place(root, "labelled", {"1": classifier()}, LABELLED_CONFIG)
    (root / "labelled" / "labels.txt").write_text("\n".join(LABELS) + "\n")
    place(root, "batched", {"1": affine(3.0, 0.0, ("n", 3))}, BATCHED_CONFIG)
    (root / "batched" / "warmup").mkdir()
    (root / "batched" / "warmup" / "x.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    place(root, "narrow", {"1": slow()}, NARROW_CONFIG)
    place(root, "hasty", {"1": slow()}, HASTY_CONFIG)
    place(root, "reshaped", {"1": affine(0.5, 0.25, ("n",))}, RESHAPED_CONFIG)
    place(root, "unlabelled", {"1": classifier(21)})


def _place_files(root: Path) -> None:
    save(affine(1.0, 1.0, ("n",)), root / "renamed" / "1" / "weights.onnx")
    (root / "renamed" / "config.pbtxt").write_text('default_model_filename: "weights.onnx"\n')
    folder = root / "external" / "1" / "model.onnx"
    folder.mkdir(parents=True)
    onnx.save_model(
        logistic(512), folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=64
    )
    (root / "README.txt").write_text("Files that are not a model are passed over.\n")
    (root / ".hidden").mkdir()


def _place_broken(root: Path) -> None:
    (root / "broken.onnx").write_bytes(np.random.default_rng(3).bytes(400))
    (root / "cut_short.onnx").write_bytes(mlp().SerializeToString()[:2000])
    (root / "empty_version" / "1").mkdir(parents=True)


REFUSED_CONFIGS = {
    "refused_gpu": "instance_group [ { count: 1 kind: KIND_GPU } ]",
    "refused_backend": 'backend: "tensorrt"',
    "refused_platform": 'platform: "tensorflow_savedmodel"',
    "refused_syntax": 'input [ { name: "x" data_type',
    "refused_field": "max_batch_sise: 4",
    "refused_dims": 'max_batch_size: 0 input { name: "x" data_type: TYPE_FP32 dims: [ -1, 7 ] }',
    "refused_type": 'input { name: "x" data_type: TYPE_INT8 dims: [ -1, 3 ] }',
    "refused_name": 'name: "another"',
    "refused_labels": 'output { name: "y" data_type: TYPE_FP32 dims: [ -1, 3 ] label_filename: "../labels.txt" }',
    "refused_decoupled": "model_transaction_policy { decoupled: true }",
    "refused_sequence": "sequence_batching { max_sequence_idle_microseconds: 5000 }",
    "refused_ensemble": 'ensemble_scheduling { step [ { model_name: "pair" model_version: -1 } ] }',
}


def _place_refused(root: Path) -> None:
    for name, config in REFUSED_CONFIGS.items():
        place(root, name, {"1": versioned(1)}, config + "\n")
    warmup = 'inputs { key: "index" value { data_type: TYPE_INT64 dims: [ 1 ] input_data_file: "index.bin" } }'
    place(root, "refused_warmup", {"1": gather()}, f'model_warmup [ {{ name: "out of range" {warmup} }} ]\n')
    (root / "refused_warmup" / "warmup").mkdir()
    (root / "refused_warmup" / "warmup" / "index.bin").write_bytes(np.array([99], np.int64).tobytes())
    (root / "labels.txt").write_text("not yours\n")


def load_config(max_batch_size: int) -> str:
    """A configuration as repository load takes it: a JSON text."""
    return json.dumps({"backend": "onnxruntime", "max_batch_size": max_batch_size})
