"""Graphs whose answers would depend on earlier requests are refused at admission."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import parser

from penstock.core.errors import Refused
from penstock.registry.admission.inspection import read_model
from penstock.registry.admission.repairs import repair

STATISTICS = "<float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}>"
CHANCE = "<float r = {0.5}, bool yes = {1}, bool no = {0}>"
NUMBERS = "g (float[N, 2] x) => (float[N, 2] y)"


def graph(text: str, opset: int = 17, after: str = "") -> onnx.ModelProto:
    more = ', "f" : 1' if after else ""
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{more}]>\n{text}\n{after}')


def trained(opset: int = 17) -> onnx.ModelProto:
    """A normalization whose statistics stay inside of the graph, so that they come to lie where its constants do."""
    attribute, outputs = ("<training_mode = 1>", "a, p, q") if opset >= 14 else ("", "a, p, q, t, u")
    text = f"{outputs} = BatchNormalization {attribute} (x, s, b, m, v) w = Add (p, q) y = Add (a, w)"
    return graph(f"{NUMBERS} {STATISTICS} {{ {text} }}", opset)


def admit(folder: Path, model: onnx.ModelProto) -> None:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    repair(path, read_model(path))


REMEMBER = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
mine, theirs = numpy.ones((2, 2), "f"), numpy.full((2, 2), 9, "f")
first = session.run(None, {"x": mine})[0]
session.run(None, {"x": theirs})
print(numpy.array_equal(first, session.run(None, {"x": mine})[0]))
"""


def remembers(folder: Path, model: onnx.ModelProto) -> bool:
    """Whether the runtime answers otherwise after a request of somebody else's."""
    path = folder / "tried.onnx"
    path.write_bytes(model.SerializeToString())
    run = subprocess.run([sys.executable, "-c", REMEMBER, str(path)], capture_output=True, text=True, check=True)
    return run.stdout.strip() == "False"


@pytest.mark.parametrize("opset", [14, 15, 17, 22])
@pytest.mark.processes
def test_trained_statistics_are_refused(tmp_path: Path, opset: int) -> None:
    assert remembers(tmp_path, trained(opset))
    with pytest.raises(
        Refused, match=r"BatchNormalization a is in training mode.*earlier requests; export the model for"
    ):
        admit(tmp_path, trained(opset))


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_statistics_that_older_operator_sets_give_are_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(Refused, match="BatchNormalization a is in training mode"):
        admit(tmp_path, trained(opset))


SEEDED = {
    "Bernoulli": "{ c = Clip (x, o, r) y = Bernoulli <seed = 3.0> (c) }",
    "Dropout": "{ y = Dropout <seed = 3> (x, r, yes) }",
    "Multinomial": "{ d = Multinomial <seed = 3.0, sample_size = 2> (x) y = Cast <to = 1> (d) }",
    "RandomNormal": "{ d = RandomNormal <seed = 3.0, shape = [2]> () y = Add (x, d) }",
    "RandomNormalLike": "{ y = RandomNormalLike <seed = 3.0> (x) }",
    "RandomUniform": "{ d = RandomUniform <seed = 3.0, shape = [2]> () y = Add (x, d) }",
    "RandomUniformLike": "{ y = RandomUniformLike <seed = 3.0> (x) }",
}
WITH_ZERO = CHANCE.replace(">", ", float o = {0}>")


@pytest.mark.parametrize("operator", SEEDED)
def test_a_seed_whose_sequence_goes_on_is_refused(tmp_path: Path, operator: str) -> None:
    with pytest.raises(Refused, match=rf"{operator} \w has a seed.*how many requests came before; remove the seed"):
        admit(tmp_path, graph(f"{NUMBERS} {WITH_ZERO} {SEEDED[operator]}"))


@pytest.mark.parametrize("operator", SEEDED)
def test_numbers_that_nobody_foresees_are_served(tmp_path: Path, operator: str) -> None:
    text = SEEDED[operator].replace("seed = 3.0, ", "").replace("<seed = 3.0>", "").replace("<seed = 3>", "")
    admit(tmp_path, graph(f"{NUMBERS} {WITH_ZERO} {text}"))


@pytest.mark.parametrize("mode", ["", ", r", ", r, no", ", r, off"])
def test_a_dropout_that_drops_nothing_is_served(tmp_path: Path, mode: str) -> None:
    off = "off = Constant <value = bool {0}> ()"
    admit(tmp_path, graph(f"{NUMBERS} {CHANCE} {{ {off} y = Dropout <seed = 3> (x{mode}) }}"))


def test_a_caller_who_chooses_to_drop_a_trace_proves_nothing(tmp_path: Path) -> None:
    text = "g (float[N, 2] x, bool t) => (float[N, 2] y) <float r = {0.5}> { y = Dropout <seed = 3> (x, r, t) }"
    with pytest.raises(Refused, match="Dropout y has a seed"):
        admit(tmp_path, graph(text))


INNER = """g (float[N, 2] x, bool c) => (float[N, 2] y) {
    y = If (c) <then_branch = t () => (float[N, 2] p) { p = RandomNormalLike <seed = 3.0> (x) },
                else_branch = e () => (float[N, 2] q) { q = Identity (x) }> }"""
FUNCTION = '<domain: "f", opset_import: ["" : 17]>\nk (p, r, t) => (q) { q = Dropout <seed = 3> (p, r, t) }'


def test_graphs_within_graphs_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="RandomNormalLike p has a seed"):
        admit(tmp_path, graph(INNER))


def test_functions_are_looked_at_where_they_are_called(tmp_path: Path) -> None:
    admit(tmp_path, graph(f"{NUMBERS} {CHANCE} {{ y = f.k (x, r, no) }}", after=FUNCTION))
    with pytest.raises(Refused, match="has a seed"):
        admit(tmp_path, graph(f"{NUMBERS} {CHANCE} {{ y = f.k (x, r, yes) }}", after=FUNCTION))


def test_statistics_of_the_file_are_served(tmp_path: Path) -> None:
    text = f"{NUMBERS} {STATISTICS} {{ y = BatchNormalization (x, s, b, m, v) }}"
    for opset in (7, 9, 14, 17):
        admit(tmp_path, graph(text, opset))
