"""A training command: learns a linear classifier from the newest captured rows that have labels, and pushes it.

Arguments: a file to which each run adds a line, how many of the newest rows count, and the new version.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper
from pyarrow import parquet

from tests import zoo

CLASSES = 3
STEPS = 1500
RATE = 2.0

Floats = NDArray[np.float64]


def graph(weights: Floats, bias: Floats) -> ModelProto:
    """Softmax over a linear score for each class."""
    numbers = [zoo.constant("w", weights.astype(np.float32)), zoo.constant("b", bias.astype(np.float32))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wx"]),
        helper.make_node("Add", ["wx", "b"], ["score"]),
        helper.make_node("Softmax", ["score"], ["y"], axis=1),
    ]
    inputs, outputs = [zoo.value("x", "FP32", ("n", len(weights)))], [zoo.value("y", "FP32", ("n", CLASSES))]
    return zoo.model(nodes, inputs, outputs, numbers)


def learned(rows: Floats, labels: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """The weights and the bias of a softmax regression by gradient descent."""
    one, truth = np.ones((len(rows), 1)), np.eye(CLASSES)[labels]
    x = np.hstack([rows, one])
    found = np.zeros((x.shape[1], CLASSES))
    for _ in range(STEPS):
        score = np.exp(x @ found - (x @ found).max(axis=1, keepdims=True))
        found -= RATE * x.T @ (score / score.sum(axis=1, keepdims=True) - truth) / len(x)
    return found[:-1], found[-1]


def main(runs: Path, newest: int, version: str) -> None:
    """Train and push."""
    with runs.open("a") as file:
        file.write("run\n")
    table = parquet.read_table(os.environ["PENSTOCK_ROWS"]).sort_by("at")
    known = table.filter(table["label"].is_valid()).slice(max(0, table.num_rows - newest))
    rows, labels = np.array(known["x"].to_pylist(), np.float64), known["label"].to_numpy().astype(np.intp)
    Path("model.onnx").write_bytes(graph(*learned(rows, labels)).SerializeToString())
    names = ",".join(f"f{index}" for index in range(rows.shape[1]))
    np.savetxt("rows.csv", rows, "%.6f", ",", header=names, comments="")
    command = [sys.executable, "-m", "penstock", "models", "push", os.environ["PENSTOCK_MODEL"], "model.onnx"]
    subprocess.run([*command, "--version", version, "--reference", "rows.csv"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
