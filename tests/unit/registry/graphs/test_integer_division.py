"""Divisions of whole numbers that would end the process are guarded at admission, and give what they gave before."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, inliner, numpy_helper, parser

from penstock.core.errors import Fault, Internal, InvalidInput, Refused
from penstock.engine.faults import run_fault
from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.inspection import read_model
from penstock.registry.admission.plain_graph import read_plain
from penstock.registry.admission.repairs import repair
from penstock.registry.graphs.rewrite import decode_rewrite, write_edited
from tests.budgets import examples

NUMBERS: dict[str, Any] = {"int32": np.int32, "int64": np.int64}


def graph(text: str, opset: int = 17, more: str = "") -> onnx.ModelProto:
    imported = ", ".join([f'"" : {opset}', *([more] if more else [])])
    return parser.parse_model(f"<ir_version: 8, opset_import: [{imported}]>\n{text}")


def binary(operator: str, kind: str, opset: int = 17) -> onnx.ModelProto:
    return graph(f"g ({kind}[N] a, {kind}[N] b) => ({kind}[N] y) {{ y = {operator} (a, b) }}", opset)


def repaired(folder: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model as it would be served, and the divisions that were guarded."""
    path, result = folder / "model.onnx", folder / "served.onnx"
    path.write_bytes(model.SerializeToString())
    facts = repair(path, read_model(path))
    rewrite = decode_rewrite(facts)
    if rewrite is None:
        assert "guarded_divisions" not in facts
        return model, []
    result.unlink(missing_ok=True)
    write_edited(path, rewrite, result)
    served = onnx.load(result)
    onnx.checker.check_model(served, full_check=True)
    return served, facts["guarded_divisions"]


def run(model: onnx.ModelProto, **feeds: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def wrapped(operator: str, a: Any, b: Any) -> Any:
    """Division towards zero (Div) or the rest with the divisor's sign (Mod), in two's complement."""
    with np.errstate(all="ignore"):
        if operator == "Mod":
            return np.where(b == -1, 0, np.mod(a, np.where(b == -1, 1, b))).astype(a.dtype)
        exact = [
            abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a.tolist(), b.tolist(), strict=True)
        ]
        bits = a.dtype.itemsize * 8
        return np.array([(item + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1) for item in exact], a.dtype)


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_the_least_number_by_minus_one_wraps_around(tmp_path: Path, operator: str, kind: str) -> None:
    served, guarded = repaired(tmp_path, binary(operator, kind))
    assert guarded == [f"{operator} y"]
    least = np.iinfo(NUMBERS[kind]).min
    a, b = np.array([least, least, 7, -7, 7], NUMBERS[kind]), np.array([-1, 1, -1, 2, -2], NUMBERS[kind])
    np.testing.assert_array_equal(run(served, a=a, b=b), wrapped(operator, a, b))


EDGES = {kind: [np.iinfo(kind).min, np.iinfo(kind).min + 1, -2, -1, 1, 2, np.iinfo(kind).max] for kind in NUMBERS}


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data(), operator=st.sampled_from(["Div", "Mod"]), kind=st.sampled_from(sorted(NUMBERS)))
def test_every_other_result_stays(
    data: st.DataObject, operator: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    info = np.iinfo(kind)
    number = st.one_of(st.sampled_from(EDGES[kind]), st.integers(int(info.min), int(info.max)))
    pairs = data.draw(st.lists(st.tuples(number, number.filter(bool)), min_size=1, max_size=20))
    a, b = (np.array(side, kind) for side in zip(*pairs, strict=True))
    served, _ = repaired(tmp_path_factory.mktemp("m"), binary(operator, kind))
    np.testing.assert_array_equal(run(served, a=a, b=b), wrapped(operator, a, b))


ZERO = {
    "Div": "g (int64[N] a, int64[N] b) => (int64[N] y) { y = Div (a, b) }",
    "Mod": "g (int64[N] a, int64[N] b) => (int64[N] y) { y = Mod (a, b) }",
    "moved and cast": """g (int64[N] a, int64[N] b) => (int64[N] y) {
        u = Unsqueeze (b, z)\n c = Cast <to = 6> (u)\n d = Cast <to = 7> (c)\n r = Reshape (d, m)\n y = Div (a, r) }""",
    "in a branch": """g (int64[N] a, int64[N] b) => (int64[N] y) {
        s0 = ReduceSum <keepdims = 0> (a)
        yes = Cast <to = 9> (s0)
        y = If (yes) <then_branch = t () => (int64[N] r) { r = Div (a, b) },
                      else_branch = e () => (int64[N] s) { s = Identity (b) }> }""",
}
OWN = "g (int64[N] a, int64[N] b) => (int64[N] y) { d = Sub (b, a)\n y = Div (a, d) }"


def fault_of(folder: Path, text: str, **feeds: Any) -> Fault:
    model = graph(text)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0]), "z"),
            numpy_helper.from_array(np.array([-1]), "m"),
        ]
    )
    served, guarded = repaired(folder, model)
    assert len(guarded) == 1
    with pytest.raises(Exception, match="by zero") as caught:
        run(served, **feeds)
    return run_fault(caught.value)


@pytest.mark.parametrize("case", ZERO)
def test_a_divisor_of_zero_that_a_caller_brings_is_the_callers_mistake(tmp_path: Path, case: str) -> None:
    fault = fault_of(tmp_path, ZERO[case], a=np.array([1, 2]), b=np.array([1, 0]))
    assert isinstance(fault, InvalidInput)
    assert str(fault) == "the model cannot take these values: a divisor is 0"
    assert f"{'Mod' if case == 'Mod' else 'Div'} {'r' if case == 'in a branch' else 'y'}" in fault.full_text


def test_a_divisor_that_the_graph_computes_is_the_models(tmp_path: Path) -> None:
    fault = fault_of(tmp_path, OWN, a=np.array([1, 2]), b=np.array([3, 2]))
    assert isinstance(fault, Internal)


SAFE = {
    "floats": "g (float[N] a, float[N] b) => (float[N] y) { y = Div (a, b) }",
    "narrow": "g (int8[N] a, int8[N] b) => (int8[N] y) { y = Div (a, b) }",
    "unsigned": "g (uint64[N] a, uint64[N] b) => (uint64[N] y) { y = Mod (a, b) }",
    "constant": "g (int64[N] a) => (int64[N] y) <int64[2] d = {2, -3}> { y = Div (a, d) }",
    "constant node": "g (int64[N] a) => (int64[N] y) { d = Constant <value_int = 7> ()\n y = Mod (a, d) }",
    "a constant is divided": "g (int64[N] b) => (int64[N] y) <int64[1] d = {100}> { y = Div (d, b) }",
    "by a size": "g (int64[N] a, float[M] x) => (int64[N] y) { s = Shape (x)\n y = Div (a, s) }",
    "by one of sizes": """g (int64[N] a, float[M, K] x) => (int64[N] y) <int64 one = {1}> {
        s = Shape (x)\n k = Gather (s, one)\n z = Constant <value_ints = [0]> ()
        u = Unsqueeze (k, z)\n c = Concat <axis = 0> (u, z)\n y = Mod (a, u) }""",
    "a widened number": "g (int32[N] a, int64[N] b) => (int64[N] y) { w = Cast <to = 7> (a)\n y = Div (w, b) }",
    "by an amount": "g (int64[N] a, int64[N] b) => (int64[N] y) { p = Abs (b)\n y = Div (a, p) }",
    "by a truth": "g (int64[N] a, bool[N] b) => (int64[N] y) { p = Cast <to = 7> (b)\n y = Div (a, p) }",
}


@pytest.mark.parametrize("case", SAFE)
def test_what_cannot_fail_stays_as_it_was_brought(tmp_path: Path, case: str) -> None:
    assert repaired(tmp_path, graph(SAFE[case]))[1] == []


UNSAFE = {
    "constant": "g (int64[N] a) => (int64[N] y) <int64[2] d = {2, -1}> { y = Div (a, d) }",
    "a number from decimals": "g (float[N] a, int64[N] b) => (int64[N] y) { w = Cast <to = 7> (a)\n y = Div (w, b) }",
    "by a narrowed size": """g (int32[N] a, float[M] x) => (int32[N] y) {
        s = Shape (x)\n t = Cast <to = 6> (s)\n y = Div (a, t) }""",
    "an amount is divided": "g (int64[N] a, int64[N] b) => (int64[N] y) { p = Abs (a)\n y = Div (p, b) }",
    "by a difference of sizes": """g (int64[N] a, float[M] x, float[M] z) => (int64[N] y) {
        s = Shape (x)\n t = Shape (z)\n d = Sub (s, t)\n y = Mod (a, d) }""",
    "fmod": "g (int64[N] a, int64[N] b) => (int64[N] y) { y = Mod <fmod = 1> (a, b) }",
}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_is_not_proven_is_guarded(tmp_path: Path, case: str) -> None:
    served, guarded = repaired(tmp_path, graph(UNSAFE[case]))
    assert len(guarded) == 1
    onnxruntime.InferenceSession(served.SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_constant_that_callers_may_replace_is_none(tmp_path: Path) -> None:
    model = graph("g (int64[N] a, int64[1] d) => (int64[N] y) { y = Div (a, d) }")
    model.graph.initializer.append(numpy_helper.from_array(np.array([3], np.int64), "d"))
    assert repaired(tmp_path, model)[1] == ["Div y"]


INNER = {
    "If": """g (int64[N] a, int64[N] b, bool c) => (int64[N] y) {
        y = If (c) <then_branch = t () => (int64[N] r) { r = Div (a, b) },
                    else_branch = e () => (int64[N] s) { s = Identity (b) }> }""",
    "Loop": """g (int64[N] a, int64[N] b, bool c) => (int64[N] y) <int64 n = {1}> {
        y = Loop (n, c, a) <body = t (int64 i, bool k, int64[N] x) => (bool l, int64[N] r) {
            l = Identity (k)\n r = Div (x, b) }> }""",
    "If in If": """g (int64[N] a, int64[N] b, bool c) => (int64[N] y) {
        y = If (c) <then_branch = t () => (int64[N] r) {
                r = If (c) <then_branch = u () => (int64[N] v) { v = Div (a, b) },
                            else_branch = w () => (int64[N] s) { s = Identity (b) }> },
            else_branch = e () => (int64[N] q) { q = Identity (b) }> }""",
}


@pytest.mark.parametrize("case", INNER)
def test_graphs_within_graphs_are_guarded(tmp_path: Path, case: str) -> None:
    served, guarded = repaired(tmp_path, graph(INNER[case]))
    assert len(guarded) == 1
    least = np.array([np.iinfo(np.int64).min, 9], np.int64)
    assert run(served, a=least, b=np.array([-1, 2]), c=np.array(True)).tolist() == [least[0], 4]


def test_a_scan_is_guarded(tmp_path: Path) -> None:
    body = parser.parse_graph(
        "t (int64[2] s, int64[2] x) => (int64[2] u, int64[2] r) { u = Identity (s)\n r = Mod (x, s) }"
    )
    node = helper.make_node("Scan", ["b", "a"], ["last", "y"], num_scan_inputs=1, body=body)
    values = [
        helper.make_tensor_value_info("b", TensorProto.INT64, [2]),
        helper.make_tensor_value_info("a", TensorProto.INT64, ["N", 2]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["N", 2])]
    model = helper.make_model(
        helper.make_graph([node], "g", values, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    served, guarded = repaired(tmp_path, model)
    assert guarded == ["Mod r"]
    least = np.full((1, 2), np.iinfo(np.int64).min)
    assert run(served, a=least, b=np.array([-1, 3], np.int64)).tolist() == [[0, 1]]


FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
g (int64[N] a, {kind}[N] b) => ({kind}[N] y) {{ y = f.k (b, b) }}
<domain: "f", opset_import: ["" : 17]>
k (p, q) => (r) {{ r = Div (p, q) }}"""


def test_functions_are_looked_at_where_they_are_called(tmp_path: Path) -> None:
    assert repaired(tmp_path, parser.parse_model(FUNCTION.format(kind="float")))[1] == []
    model = parser.parse_model(FUNCTION.format(kind="int64"))
    with pytest.raises(Refused, match=r"inline the functions with onnx.inliner.inline_local_functions"):
        repaired(tmp_path, model)
    assert len(repaired(tmp_path, inliner.inline_local_functions(model))[1]) == 1


def fused(operator: str, kind: int) -> onnx.ModelProto:
    """A division of what an operator gives that ONNX itself does not know."""
    nodes = [
        helper.make_node(operator, ["a"], ["s"], domain="com.microsoft"),
        helper.make_node("Div", ["s", "s"], ["t"], name="the ratio"),
        helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT),
    ]
    inputs = [helper.make_tensor_value_info("a", kind, ["N"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=opsets, ir_version=8)


def test_types_that_only_the_runtime_knows(tmp_path: Path) -> None:
    assert repaired(tmp_path, fused("QuickGelu", TensorProto.FLOAT))[1] == []


def test_a_division_of_unknown_type_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"the type of the values that Div the ratio divides cannot be inferred.*value_info"
    ):
        repaired(tmp_path, fused("NobodyKnows", TensorProto.FLOAT))
    model = fused("NobodyKnows", TensorProto.FLOAT)
    model.graph.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, ["N"]))
    assert repaired(tmp_path, model)[1] == []


def test_an_operator_set_without_a_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"Div y may divide .*operator set 8 .*operator set 9 or later"):
        repaired(tmp_path, binary("Div", "int64", 8))
    assert len(repaired(tmp_path, binary("Div", "int64", 9))[1]) == 1


def test_names_that_are_taken_are_not_taken_again(tmp_path: Path) -> None:
    model = graph(
        """g (int64[N] a, int64[N] b) => (int64[N] y) {
        guard_Where_1 = Div (a, b)\n y = Div (guard_Where_1, b) }"""
    )
    served, guarded = repaired(tmp_path, model)
    assert len(guarded) == 2
    least = np.array([np.iinfo(np.int64).min])
    assert run(served, a=least, b=np.array([-1])).tolist() == least.tolist()


def test_large_constants_are_kept(tmp_path: Path) -> None:
    model = graph("g (int64[N, 20000] a, int64[N, 1] b) => (int64[N, 20000] y) { s = Add (a, w)\n y = Div (s, b) }")
    model.graph.initializer.append(numpy_helper.from_array(np.arange(20000), "w"))
    served, _ = repaired(tmp_path, model)
    assert run(served, a=np.zeros((1, 20000), np.int64), b=np.array([[-1]]))[0, -1] == -19999


def test_rows_stay_proven_independent(tmp_path: Path) -> None:
    served, guarded = repaired(
        tmp_path, graph("g (int64[N, 3] a, int64[N, 1] b) => (int64[N, 3] y) { y = Div (a, b) }")
    )
    assert guarded and prove(read_plain(served)).independent
