"""Models with the guards that admission puts into them, for tests."""

from pathlib import Path

import onnx

from penstock.registry.admission.inspection import read_model
from penstock.registry.admission.repairs import repair
from penstock.registry.graphs.rewrite import decode_rewrite, write_edited


def served(folder: Path, model: onnx.ModelProto, fact: str) -> tuple[onnx.ModelProto, list[str]]:
    """The model as it would be served, and the operators that a fact of its admission names."""
    path, result = folder / "model.onnx", folder / "served.onnx"
    path.write_bytes(model.SerializeToString())
    facts = repair(path, read_model(path))
    rewrite = decode_rewrite(facts)
    if rewrite is None:
        return model, []
    write_edited(path, rewrite, result)
    return onnx.load(result), facts[fact]
