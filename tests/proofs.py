"""What admission would find out of a graph's rows, for tests that load models without it."""

from pathlib import Path

import onnx

from penstock.core.batching import RowProof
from penstock.engine.row_independence.proof import prove
from penstock.registry.plain_graph import read_plain


def proof_of(path: Path) -> RowProof:
    """The proof for the graph in a file."""
    return prove(read_plain(onnx.load(path, load_external_data=False)))
