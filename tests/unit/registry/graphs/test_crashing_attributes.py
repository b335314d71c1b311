"""Operators whose attributes end the process are refused at admission, also where its inputs do not reach them."""

from pathlib import Path

import onnx
import pytest
from onnx import parser

from penstock.core.errors import Refused
from penstock.registry.admission.inspection import read_model
from penstock.registry.admission.repairs import repair

DEADLY = {
    "RandomNormal of scale 0": "r = RandomNormal <shape = [2], scale = 0.0> ()",
    "RandomNormal of scale -1": "r = RandomNormal <shape = [2], scale = -1.0> ()",
    "RandomNormalLike": "r = RandomNormalLike <scale = 0.0> (x)",
    "RandomUniform": "r = RandomUniform <shape = [2], low = 2.0, high = 1.0> ()",
    "RandomUniform above the default": "r = RandomUniform <shape = [2], low = 2.0> ()",
    "RandomUniformLike": "r = RandomUniformLike <high = -1.0> (x)",
    "GatherND": "r = GatherND <batch_dims = -1> (x, at)",
}
SOUND = {
    "RandomNormal": "r = RandomNormal <shape = [2], scale = 0.5> ()",
    "RandomNormalLike": "r = RandomNormalLike (x)",
    "RandomUniform": "r = RandomUniform <shape = [2], low = -2.0, high = -1.0> ()",
    "GatherND": "r = GatherND <batch_dims = 1> (x, at)",
}


def graph(text: str, inside: bool = False) -> onnx.ModelProto:
    if inside:
        text = f"""no = Cast <to = 9> (zero)
            r = If (no) <then_branch = t () => (float[] q) {{ {text.replace("r = ", "q = ")} }},
                         else_branch = e () => (float[] s) {{ s = Identity (x) }}>"""
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[] y) <int64[1, 2] at = {{0, 1}}, int64 zero = {{0}}> {{
            {text}\n y = Identity (r) }}"""
    )


def admit(folder: Path, model: onnx.ModelProto) -> None:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    repair(path, read_model(path))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("case", DEADLY)
def test_what_ends_the_process_is_refused(tmp_path: Path, case: str, inside: bool) -> None:
    with pytest.raises(Refused, match=f"{case.split(maxsplit=1)[0]} . has .*, which ends the process"):
        admit(tmp_path, graph(DEADLY[case], inside))


@pytest.mark.parametrize("case", SOUND)
def test_what_does_not_is_served(tmp_path: Path, case: str) -> None:
    admit(tmp_path, graph(SOUND[case]))
