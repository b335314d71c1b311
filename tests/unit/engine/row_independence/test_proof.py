"""The course of a proof: what it says of the operator it ends at, and what it does with parts that do not matter."""

import onnx
import pytest

from loadtests.graphs import find_repository
from loadtests.models import MODELS
from penstock.core.batching import RowProof
from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from tests.unit.engine.row_independence.cases import Case


def proof_of(graph: str, opset: int = 18) -> RowProof:
    return prove(read_plain(Case("", graph, opset).model()))


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_load_tests_are_proven(name: str) -> None:
    find_repository(MODELS[name])
    assert prove(read_plain(onnx.load(MODELS[name].file))) == RowProof(True)


def test_a_proof_that_fails_names_the_first_operator_on_the_way_to_an_output() -> None:
    proof = proof_of("(float[N, 3] x) => (float[N, 3] y) { a = Relu(x) b = Softmax<axis = 0>(a) y = CumSum(b, b) }")
    reason = "operator Softmax normalises over the rows (axis 0)"
    assert proof == RowProof(False, reason, "b", "Softmax")


def test_a_listed_node_is_listed() -> None:
    model = Case("", "(float[N, 3] x) => (float[N, 3] y) { y = Softmax<axis = 0>(x) }").model()
    model.graph.node[0].name = "/encoder/" + "very long " * 20
    proof = prove(read_plain(model))
    assert proof.node == "/encoder/" + ("very long " * 20)[:71] + "..."
    assert "/" not in proof.reason


def test_operators_that_reach_no_output_do_not_matter() -> None:
    assert proof_of("(float[N, 3] x) => (float[N, 3] y) { a = Softmax<axis = 0>(x) y = Relu(x) }").independent


def test_what_depends_on_no_row_may_be_computed_by_any_operator() -> None:
    graph = """(float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 0, 2}, int64[1] axes = {0}> {
        found = NonZero(w) first = ReduceMax<keepdims = 0>(found) f = Cast<to = 1>(first) y = Mul(x, f)
    }"""
    proof = proof_of(graph.replace("y = Mul(x, f)", "to = Shape(x) y = Relu(x)"))
    assert proof.independent
    assert proof_of(graph).reason == "operator Mul takes a value whose rank is not known"


def test_a_random_operator_without_inputs_is_not_the_same_for_all_rows() -> None:
    assert not proof_of(
        "(float[N, 3] x) => (float[N, 3] y) { r = RandomUniform<shape = [3]>() y = Add(x, r) }"
    ).independent


def test_functions_of_the_file_are_not_looked_into() -> None:
    text = """<ir_version: 9, opset_import: ["": 18, "own": 1]>
    g (float[N, 3] x) => (float[N, 3] y) { y = own.Twice(x) }
    <domain: "own", opset_import: ["": 18]> Twice (a) => (b) { b = Add(a, a) }"""
    proof = prove(read_plain(onnx.parser.parse_model(text)))
    assert not proof.independent
    assert proof.operator == "own.Twice"


def test_a_function_in_the_name_of_a_known_operator_is_not_that_operator() -> None:
    model = Case("", "(float[N, 3] x) => (float[N, 3] y) { y = com.microsoft.Gelu(x) }").model()
    assert prove(read_plain(model)).independent
    made = onnx.helper.make_function("com.microsoft", "Gelu", ["a"], ["b"], [], [onnx.helper.make_opsetid("", 18)])
    model.functions.append(made)
    assert prove(read_plain(model)).reason == "operator com.microsoft.Gelu is a function that the file itself defines"


def test_shapes_that_are_not_stated_prove_nothing() -> None:
    model = Case("", "(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }").model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert prove(read_plain(model)).reason == "input 'x' does not state a shape with rows"


def test_an_input_with_a_default_is_a_constant() -> None:
    graph = "(float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }"
    model = Case("", graph).model()
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [3]))
    assert prove(read_plain(model)).independent


@pytest.mark.parametrize(
    "graph",
    [
        "(float[N, 3] x) => (float[N, 3] y) { y = Transpose<perm = [0, 5]>(x) }",
        "(float[N, 3] x) => (float[N, 3] y) { y = Softmax<axis = 7>(x) }",
        "(float[N, 3] x) => (float[N, 3] y) { y = Relu(missing) }",
        "(float[N, 3] x) => (float[N, 3] y) <int64[1] p = {1}> { y = Pad(x, p) }",
        '(float[N, 3] x) => (float[N, 3] y) { y = Einsum<equation = "abc->a">(x) }',
        "(float[N, 3] x) => (float[N, 3] y) { y = Concat<axis = 1>() }",
        "(float[N, 3] x) => (float[N, 3] y) { y = Add() }",
        "(float[N, 3] x) => (float[N, 3] y) { y = Clip(x, x) }",
        '(float[N, 3] x) => (float[N, 3] y) { y = Softmax<axis = "one">(x) }',
        "(float[N, 4, 6, 6] x) => (float[N, 4] y) { y = MaxPool<kernel_shape = [2]>(x) }",
    ],
)
def test_graphs_that_make_no_sense_prove_nothing(graph: str) -> None:
    proof = proof_of(graph)
    assert not proof.independent
    assert proof.reason


def test_long_chains_are_followed() -> None:
    steps = " ".join(f"a{step} = Relu(a{step - 1})" for step in range(1, 3000))
    assert proof_of(f"(float[N, 3] x) => (float[N, 3] y) {{ a0 = Relu(x) {steps} y = Relu(a2999) }}").independent


CHOSEN = "(float[N, 3] x, bool[N] b) => (float[{rows}, 3] y) {{ c = Compress<axis = 0>(x, b) y = Relu(c) }}"
MASKED = """(float[N, 3] x) => (float[{rows}, 3] y) <float[1] zero = {{0}}> {{
    negative = Less(x, zero) found = NonZero(negative) at = Transpose(found) values = GatherND(x, at)
    none = Neg(values) y = ScatterND(x, at, none)
}}"""


@pytest.mark.parametrize(
    ("graph", "vary"),
    [
        (CHOSEN.format(rows="M"), True),
        (CHOSEN.format(rows="N"), False),  # the graph says so; nothing else shows it
        (MASKED.format(rows="N"), False),
        (MASKED.format(rows="M"), True),
        ("(float[N, 3] x) => (float[M, 3] y) { y = Concat<axis = 0>(x, x) }", False),
        ("(float[N, 3] x) => (float[3, N] y) { y = Transpose(x) }", True),
        ("(float[N, 3] x) => (float[N, 3] y, float[2] z) <float[2] w = {1, 2}> { y = Relu(x) z = Identity(w) }", True),
        ("(float[N, 3] x) => (float[N, 3] y) { y = Softmax<axis = 0>(x) }", False),
        ("(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }", False),
        # behind another operator that ends the proof
        ("(float[N, 3] x) => (float[M, 3] y) { s = Softmax<axis = 0>(x) n = NonZero(s) y = Cast<to = 1>(n) }", True),
    ],
)
def test_outputs_whose_size_is_a_matter_of_the_data_are_reported(graph: str, vary: bool) -> None:
    assert proof_of(graph).rows_vary is vary
