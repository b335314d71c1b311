"""Runs a graph over stored rows in a process of its own: `python -m penstock.registry.admission.scoring GRAPH FOLDER
CONFIG ROWS ANSWERS FILES`.

The configuration is protobuf JSON. FILES is a JSON list: a folder, and the files below it with their SHA-256 (hex),
which are checked; "" and none check nothing. Rows and answers are NumPy archives of arrays by tensor name, with texts
as fixed-width Unicode. On an error the last line of standard error says what is wrong.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import Fault, InvalidInput
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.engine import model as engine
from penstock.registry.admission import inspection
from penstock.registry.blobs.verified_files import verified_files
from penstock.registry.config import model_config

BATCH = 256


def score(graph: Path, options: ModelOptions, rows: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of a graph [rows, ...] for rows of its inputs [rows, ...], as each row alone would get them.

    Rows share runs if they are proven to be independent, and run one by one otherwise.

    Raises:
        Fault: the graph does not take these rows, or fails on them.
    """
    model = engine.load(graph, options, 1, inspection.proof_of(graph))
    signature = model.signature
    if not signature.batching:
        raise InvalidInput("the first axis of its inputs is not rows")
    names, total = [spec.name for spec in signature.outputs], len(next(iter(rows.values())))
    size = 1 if model.batch_cost is None else min(BATCH, signature.max_batch_size or BATCH)
    parts: list[list[Array]] = []
    for start in range(0, total, size):
        tensors = _make_tensors(rows, signature, slice(start, start + size))
        parts.append(model.run(signature.bind(tensors).feeds, names))
    return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def _make_tensors(rows: Mapping[str, Array], signature: Signature, part: slice) -> Sequence[Tensor]:
    return [
        Tensor(spec.name, spec.datatype, rows[spec.name][part].astype(NUMPY_TYPES[spec.datatype]))
        for spec in signature.inputs
        if spec.name in rows
    ]


def _open_verified(root: str, files: Sequence[tuple[str, str]]) -> AbstractContextManager[object]:
    return verified_files(Path(root), files) if root else nullcontext()


def main(graph: str, folder: str, config: str, rows: str, out: str, files: str) -> int:
    """Read the rows, run the graph, write the answers, and print the names of the features (JSON); return 1 after an
    error, which is printed."""
    try:
        with np.load(rows, allow_pickle=False) as archive:
            root, digests = json.loads(Path(files).read_text())
            with _open_verified(root, digests):
                options = model_config.read(Path(config).read_text(), Path(folder))
                answers = score(Path(graph), options, dict(archive))
    except Fault as fault:
        sys.stderr.write(f"penstock: {fault}\n")
        return 1
    plain: dict[str, Any] = {name: data.astype(str) if data.dtype == object else data for name, data in answers.items()}
    np.savez(out, **plain)
    sys.stdout.write(json.dumps(inspection.feature_names(Path(graph))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
