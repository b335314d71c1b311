"""Builds the load tests' models, weights seeded and random, and writes them in Triton layout."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from loadtests.models import SEED, BenchModel


def find_repository(model: BenchModel) -> Path:
    """The model's repository folder; the model is built on first use."""
    if not model.file.exists():
        model.file.parent.mkdir(parents=True, exist_ok=True)
        part = model.file.with_suffix(f".{os.getpid()}")
        part.write_bytes(_BUILDERS[model.name]().SerializeToString())
        part.replace(model.file)
    return model.folder


_OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


class _Graph:
    """Collects nodes and seeded weights; every method returns the name of what it made."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([SEED, seed])
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        result = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], **attributes))
        return result

    def constant(self, values: NDArray[Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, *shape: int, scale: float) -> str:
        return self.constant((self.random.normal(size=shape) * scale).astype(np.float32))

    def uniform(self, *shape: int, low: float, high: float) -> str:
        return self.constant(self.random.uniform(low, high, size=shape).astype(np.float32))

    def dense(self, x: str, wide: int, out: int, name: str = "") -> str:
        weight = self.normal(wide, out, scale=(2.0 / wide) ** 0.5)
        return self.op("Gemm", x, weight, self.normal(out, scale=0.1), name=name)

    def conv(self, x: str, wide: int, out: int, size: int, stride: int = 1) -> str:
        weight = self.normal(out, wide, size, size, scale=(2.0 / (wide * size * size)) ** 0.5)
        edge = size // 2
        return self.op(
            "Conv", x, weight, self.normal(out, scale=0.1), strides=[stride, stride], pads=[edge, edge, edge, edge]
        )

    def model(self, name: str, x: tuple[str, tuple[int, ...]], *outputs: onnx.ValueInfoProto) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, ["N", *x[1]])]
        graph = helper.make_graph(self.nodes, name, inputs, list(outputs), self.weights)
        made = helper.make_model(graph, opset_imports=_OPSETS, ir_version=8)
        onnx.checker.check_model(made)
        return made


def _tiny() -> onnx.ModelProto:
    graph = _Graph(1)
    centred = graph.op("Sub", "features", graph.normal(30, scale=1.0))
    scaled = graph.op("Div", centred, graph.uniform(30, low=0.5, high=2.0))
    odds = graph.dense(scaled, 30, 2)
    graph.op("Softmax", odds, name="probabilities", axis=1)
    graph.op("ArgMax", odds, name="label", axis=1, keepdims=0)
    return graph.model(
        "tiny",
        ("features", (30,)),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
    )


def _mlp() -> onnx.ModelProto:
    graph, x, widths = _Graph(2), "x", (128, 256, 512, 256)
    for wide, out in itertools.pairwise(widths):
        x = graph.op("Relu", graph.dense(x, wide, out))
    graph.dense(x, widths[-1], 10, name="logits")
    return graph.model("mlp", ("x", (128,)), helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10]))


def _gbm() -> onnx.ModelProto:
    """100 trees of depth 6 over 30 features, two classes."""
    graph, trees, depth = _Graph(4), 100, 6
    splits = 2**depth - 1
    nodes = [(tree, node) for tree in range(trees) for node in range(2 * splits + 1)]
    leaves = [(tree, node) for tree, node in nodes if node >= splits]
    features, values, weights = (graph.random.integers(0, 30, len(nodes)), *graph.random.normal(size=(2, len(nodes))))
    graph.nodes.append(
        helper.make_node(
            "TreeEnsembleClassifier",
            ["features"],
            ["label", "probabilities"],
            domain="ai.onnx.ml",
            classlabels_int64s=[0, 1],
            post_transform="SOFTMAX",
            nodes_treeids=[tree for tree, _ in nodes],
            nodes_nodeids=[node for _, node in nodes],
            nodes_modes=["LEAF" if node >= splits else "BRANCH_LT" for _, node in nodes],
            nodes_featureids=[0 if node >= splits else int(features[at]) for at, (_, node) in enumerate(nodes)],
            nodes_values=[0.0 if node >= splits else float(values[at]) for at, (_, node) in enumerate(nodes)],
            nodes_truenodeids=[0 if node >= splits else 2 * node + 1 for _, node in nodes],
            nodes_falsenodeids=[0 if node >= splits else 2 * node + 2 for _, node in nodes],
            class_treeids=[tree for tree, _ in leaves],
            class_nodeids=[node for _, node in leaves],
            class_ids=[(tree + node) % 2 for tree, node in leaves],
            class_weights=[float(abs(weights[at])) / trees for at in range(len(leaves))],
        )
    )
    return graph.model(
        "gbm",
        ("features", (30,)),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
    )


def _transformer() -> onnx.ModelProto:
    """An encoder of MiniLM's shape, two of its six layers, over 32 tokens of a small vocabulary."""
    graph, wide, vocabulary = _Graph(5), 384, 1000
    whole = graph.op("Cast", graph.op("Mul", graph.op("Abs", "tokens"), _number(graph, 100.0)), to=TensorProto.INT64)
    ids = graph.op("Mod", whole, graph.constant(np.array(vocabulary, np.int64)))
    x = graph.op("Gather", graph.normal(vocabulary, wide, scale=1.0), ids)
    for _ in range(2):
        x = _encoder_layer(graph, x, wide, 12)
    graph.op("ReduceMean", x, name="embedding", axes=[1], keepdims=0)
    shape = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", wide])
    return graph.model("transformer", ("tokens", (32,)), shape)


def _large() -> onnx.ModelProto:
    """Hardly any arithmetic on a MiB in and a MiB out."""
    graph = _Graph(6)
    graph.op("Mul", "x", _number(graph, 2.0), name="y")
    return graph.model(
        "large", ("x", (1 << 18,)), helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1 << 18])
    )


def _encoder_layer(graph: _Graph, x: str, wide: int, heads: int) -> str:
    query, key, value = (_split(graph, _product(graph, x, wide, wide), wide, heads, order) for order in _ORDERS)
    scores = graph.op("Mul", graph.op("MatMul", query, key), _number(graph, (wide / heads) ** -0.5))
    mixed = graph.op("Transpose", graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    joined = graph.op("Reshape", mixed, graph.constant(np.array([0, 0, wide], np.int64)))
    x = _norm(graph, graph.op("Add", x, _product(graph, joined, wide, wide)), wide)
    inner = graph.op("Relu", _product(graph, x, wide, 4 * wide))
    return _norm(graph, graph.op("Add", x, _product(graph, inner, 4 * wide, wide)), wide)


_ORDERS = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])


def _product(graph: _Graph, x: str, wide: int, out: int) -> str:
    return graph.op("MatMul", x, graph.normal(wide, out, scale=wide**-0.5))


def _split(graph: _Graph, x: str, wide: int, heads: int, order: list[int]) -> str:
    parts = graph.op("Reshape", x, graph.constant(np.array([0, 0, heads, wide // heads], np.int64)))
    return graph.op("Transpose", parts, perm=order)


def _norm(graph: _Graph, x: str, wide: int) -> str:
    scale, shift = (graph.constant(np.full(wide, value, np.float32)) for value in (1.0, 0.0))
    return graph.op("LayerNormalization", x, scale, shift, axis=-1)


def _number(graph: _Graph, value: float) -> str:
    return graph.constant(np.array(value, np.float32))


def _cnn() -> onnx.ModelProto:
    """ResNet-18 as it stands after its normalisation layers are folded into the convolutions."""
    graph = _Graph(3)
    x = graph.op("Relu", graph.conv("image", 3, 64, 7, 2))
    x = graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    wide = 64
    for out, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        x, wide = _block(graph, x, wide, out, stride), out
    pooled = graph.op("Flatten", graph.op("GlobalAveragePool", x))
    graph.dense(pooled, 512, 1000, name="logits")
    shape = (3, 224, 224)
    return graph.model("cnn", ("image", shape), helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000]))


def _block(graph: _Graph, x: str, wide: int, out: int, stride: int) -> str:
    """Two 3x3 convolutions beside a shortcut; halved, or the activations of a random net would grow block by block."""
    body = graph.conv(graph.op("Relu", graph.conv(x, wide, out, 3, stride)), out, out, 3)
    short = x if wide == out and stride == 1 else graph.conv(x, wide, out, 1, stride)
    half = graph.constant(np.array(0.5, np.float32))
    return graph.op("Relu", graph.op("Mul", graph.op("Add", body, short), half))


_BUILDERS = {"tiny": _tiny, "mlp": _mlp, "gbm": _gbm, "large": _large, "transformer": _transformer, "cnn": _cnn}
