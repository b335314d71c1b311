"""Trains the demo's classifiers of handwritten digits, on data that comes with scikit-learn."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler

from penstock.cli.client import Document
from penstock.core.tensors import Array

MODEL = "digits"
INPUT = "pixels"
SIDE = 8
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT = 0.3

CONFIG = f"""\
name: "{MODEL}"
max_batch_size: 1024
input {{ name: "{INPUT}" data_type: TYPE_FP32 dims: {SIDE * SIDE} }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: {len(LABELS)} label_filename: "labels.txt" }}
"""


@dataclass(frozen=True, slots=True)
class DigitRows:
    """Scanned digits of 8 x 8 pixels, 0 to 16 each: rows of 64 numbers, and what they show."""

    train_rows: Array
    train_labels: Array
    test_rows: Array
    test_labels: Array


@dataclass(frozen=True, slots=True)
class VersionRecipe:
    """How one version is made: an untrained classifier and how often it sees the training rows."""

    version: str
    title: str
    classifier: Any
    epochs: int


FAULTY = "3"
"""The version that scales the pixels twice."""


def scaled_twice(pipeline: Any) -> Any:
    """Return a pipeline that scales its pixels twice, as happens when training and serving code diverge."""
    return Pipeline([("scale twice", pipeline[0]), *pipeline.steps])


def list_recipes() -> tuple[VersionRecipe, VersionRecipe]:
    """The first version and its successor; both are seeded, so they come out the same every time."""
    return (
        VersionRecipe("1", "linear model", SGDClassifier(loss="log_loss", random_state=0), 30),
        VersionRecipe("2", "neural network", MLPClassifier((64,), learning_rate_init=0.003, random_state=0), 60),
    )


def read_digits() -> DigitRows:
    """The data, split into what is learned from and what is held out."""
    digits = load_digits()
    parts = train_test_split(
        digits.data.astype(np.float32), digits.target, test_size=HELD_OUT, random_state=0, stratify=digits.target
    )
    train_rows, test_rows, train_labels, test_labels = parts
    return DigitRows(train_rows, train_labels, test_rows, test_labels)


def train(recipe: VersionRecipe, digits: DigitRows, progress: Callable[[float], None]) -> Any:
    """Train a pipeline from raw pixels to probabilities; ``progress`` gets the held-out accuracy after each epoch."""
    scaler = MaxAbsScaler().fit(digits.train_rows)
    pipeline = Pipeline([("scale", scaler), ("classify", recipe.classifier)])
    rows = scaler.transform(digits.train_rows)
    for _ in range(recipe.epochs):
        recipe.classifier.partial_fit(rows, digits.train_labels, classes=range(len(LABELS)))
        progress(pipeline.score(digits.test_rows, digits.test_labels))
    return pipeline


def export(pipeline: Any, file: Path) -> None:
    """Write the pipeline as an ONNX graph with one input and plain tensors as outputs."""
    graph = to_onnx(
        pipeline,
        initial_types=[(INPUT, FloatTensorType([None, SIDE * SIDE]))],
        options={"zipmap": False},
    )
    names = [f"row {row} column {column}" for row in range(SIDE) for column in range(SIDE)]
    for key, value in (("feature_names", names), ("class_names", LABELS)):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(graph.SerializeToString())


def write_version(folder: Path, pipeline: Any) -> None:
    """Write the files to push: the graph, its configuration and its label names."""
    export(pipeline, folder / "model.onnx")
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")


def describe_origin(recipe: VersionRecipe, digits: DigitRows, pipeline: Any) -> Document:
    """Return the origin of a version and its held-out accuracy."""
    data = hashlib.sha256(digits.train_rows.tobytes() + digits.train_labels.tobytes()).hexdigest()
    return {
        "data_digest": f"sha256:{data}",
        "metrics": {"accuracy": float(pipeline.score(digits.test_rows, digits.test_labels))},
        "parameters": {"epochs": recipe.epochs},
        "frameworks": {"scikit-learn": sklearn.__version__},
        "card": {
            "summary": f"Handwritten digits, {recipe.title}",
            "training_data": "1,257 of the 1,797 scans that come with scikit-learn",
            "limitations": "8 x 8 pixels of one data set; for the demo only",
        },
    }
