"""The operators that make scores of rows, read as exact models: ensembles of trees, weighted sums."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from penstock.explain.linear import LinearModel
from penstock.explain.links import POST_TRANSFORMS, OutputMap, identity_map
from penstock.explain.nodes import Constants, Floats, GraphNode, NotExact
from penstock.explain.transforms import InputTransforms
from penstock.explain.trees.attributes import input_precision, read_classifier, read_regressor
from penstock.explain.trees.model import TreeModel
from penstock.explain.trees.tensors import read_tensors

Scorer: TypeAlias = Callable[[GraphNode, InputTransforms, Constants], "TreeModel | LinearModel"]


def link_of(node: GraphNode) -> tuple[str, ...]:
    """Return the link of the attribute ``post_transform``; raises ``NotExact`` if it is none that is known."""
    name = node.text("post_transform", "NONE")
    if name == "NONE":
        return ()
    if name not in POST_TRANSFORMS:
        raise NotExact(f"the transform {name} behind the scores has no margin that is known")
    return (POST_TRANSFORMS[name],)


def read_tree_regressor(node: GraphNode, inputs: InputTransforms, constants: Constants) -> TreeModel:
    """TreeEnsembleRegressor; the runtime applies no LOGISTIC or SOFTMAX to a single target."""
    ensemble = read_regressor(node, input_precision(inputs.result))
    links = link_of(node)
    return TreeModel(ensemble, inputs, identity_map(ensemble.outputs), links if ensemble.outputs > 1 else ())


def read_tree_classifier(node: GraphNode, inputs: InputTransforms, constants: Constants) -> TreeModel:
    """TreeEnsembleClassifier: its second output, with a score for each class."""
    ensemble, scores, applies = read_classifier(node, input_precision(inputs.result))
    return TreeModel(ensemble, inputs, scores, link_of(node) if applies else ())


def read_tree_ensemble(node: GraphNode, inputs: InputTransforms, constants: Constants) -> TreeModel:
    """TreeEnsemble (ai.onnx.ml 5)."""
    ensemble, links = read_tensors(node, inputs.result)
    return TreeModel(ensemble, inputs, identity_map(ensemble.outputs), links)


def read_linear_regressor(node: GraphNode, inputs: InputTransforms, constants: Constants) -> LinearModel:
    """LinearRegressor; the runtime applies no LOGISTIC or SOFTMAX to a single target."""
    sums, links = _make_sums(node, node.integer("targets", 1)), link_of(node)
    return LinearModel(sums, inputs, links if len(sums.offset) > 1 else ())


def read_linear_classifier(node: GraphNode, inputs: InputTransforms, constants: Constants) -> LinearModel:
    """LinearClassifier: its second output, with a score for each class.

    Two classes with one score: LOGISTIC gives the other class the negative margin, and all else one minus the score.
    """
    classes = len(node.texts("classlabels_strings")) or len(node.integers("classlabels_ints"))
    sums = _make_sums(node, len(node.array("intercepts")) or classes)
    if len(sums.offset) == 1 and classes == 2:
        return _second_class(node, sums, inputs)
    return LinearModel(sums, inputs, link_of(node))


def _second_class(node: GraphNode, sums: OutputMap, inputs: InputTransforms) -> LinearModel:
    links, signs = link_of(node), np.array([-1.0, 1.0])
    both = OutputMap(sums.matrix * signs, sums.offset * signs)
    if links == ("logistic",):
        return LinearModel(both, inputs, links)
    return LinearModel(both.plus(np.array([1.0, 0.0])), inputs, ())


def _make_sums(node: GraphNode, outputs: int) -> OutputMap:
    weights = node.array("coefficients").astype(np.float64)
    intercepts = node.array("intercepts").astype(np.float64)
    if outputs < 1 or len(weights) % outputs or len(intercepts) not in {0, outputs}:
        raise NotExact("the lists of the weights have different lengths")
    return OutputMap(weights.reshape(outputs, -1).T, intercepts if intercepts.size else np.zeros(outputs))


def read_gemm(node: GraphNode, inputs: InputTransforms, constants: Constants) -> LinearModel:
    """Gemm with constant weights: alpha x W + beta c."""
    if node.integer("transA", 0):
        raise NotExact("the rows are transposed before they are weighted")
    weights = constant_of(node, 1, constants)
    matrix = (weights.T if node.integer("transB", 0) else weights) * node.number("alpha", 1.0)
    added = constant_of(node, 2, constants) * node.number("beta", 1.0) if len(node.inputs) > 2 else np.zeros(1)
    return LinearModel(OutputMap(matrix, _for_each_output(added, matrix.shape[1])), inputs, ())


def read_matmul(node: GraphNode, inputs: InputTransforms, constants: Constants) -> LinearModel:
    """MatMul with constant weights."""
    weights = constant_of(node, 1, constants)
    if weights.ndim != 2:
        raise NotExact("the weights are not a matrix")
    return LinearModel(OutputMap(weights, np.zeros(weights.shape[1])), inputs, ())


def _for_each_output(added: Floats, outputs: int) -> Floats:
    if added.size not in {1, outputs}:
        raise NotExact("what is added differs from row to row")
    return np.broadcast_to(added.reshape(-1), (outputs,)).copy()


def constant_of(node: GraphNode, place: int, constants: Constants) -> Floats:
    """Return a constant input of a node as float64; raises ``NotExact`` if it is computed."""
    found = constants.get(node.inputs[place]) if len(node.inputs) > place else None
    if found is None or not np.issubdtype(found.dtype, np.number):
        raise NotExact(f"{node.op_type} combines values that are both computed")
    return found.astype(np.float64)


SCORERS: dict[tuple[str, str], tuple[int, Scorer]] = {
    ("ai.onnx.ml", "TreeEnsembleRegressor"): (0, read_tree_regressor),
    ("ai.onnx.ml", "TreeEnsembleClassifier"): (1, read_tree_classifier),
    ("ai.onnx.ml", "TreeEnsemble"): (0, read_tree_ensemble),
    ("ai.onnx.ml", "LinearRegressor"): (0, read_linear_regressor),
    ("ai.onnx.ml", "LinearClassifier"): (1, read_linear_classifier),
    ("", "Gemm"): (0, read_gemm),
    ("", "MatMul"): (0, read_matmul),
}
"""For each operator the output that has the scores, and what reads it."""
