"""The training command of the demo's policy: `python -m penstock.cli.demo.again OPS` with an event and captured rows.

It is what a team would write: read the rows that the gateway has kept, train, push the version and what it rests on.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document
from penstock.cli.demo.training import INPUT, LABELS, MODEL, Digits, Recipe, train, write_version
from penstock.cli.upload import upload
from penstock.core.tensors import Array
from penstock.engine.scratch import scratch_folder, temporary_folder
from penstock.monitor.tables import read_table

VERSION = "4"
EPOCHS = 80
KEPT_BACK = 5
"""One row in so many is not trained on, for the accuracy that is pushed."""


def main(ops: str) -> None:
    """Train on the captured rows that labels came for, and push what came of it to the gateway at ``ops``."""
    event = json.load(sys.stdin)
    digits = read_rows(Path(os.environ["PENSTOCK_ROWS"]))
    recipe = Recipe(VERSION, "neural network", MLPClassifier((64,), learning_rate_init=0.003, random_state=1), EPOCHS)
    pipeline = train(recipe, digits, lambda _accuracy: None)
    accuracy = float(pipeline.score(digits.test_rows, digits.test_labels))
    gateway = AdminApiClient(ops)
    with scratch_folder(temporary_folder(), "again") as folder:
        write_version(Path(folder, "version"), pipeline)
        told = lineage(event, digits, accuracy)
        gateway.push(MODEL, VERSION, upload(Path(folder, "version")), told, "trained again", lambda _done, _total: None)
        rows = Path(folder, "rows.npz")
        np.savez(rows, pixels=digits.train_rows, label=digits.train_labels)
        gateway.set_reference(MODEL, VERSION, upload(rows), lambda _done, _total: None)
    print(f"trained on {len(digits.train_rows)} rows: {accuracy:.1%}")


def read_rows(file: Path) -> Digits:
    """The captured rows with a label, split into what is learned from and what is kept back."""
    table = read_table(file)
    known = np.isfinite(table["label"])
    pixels: Array = np.stack(table[INPUT].tolist()).astype(np.float32)[known]
    labels = table["label"][known].astype(int)
    back = np.arange(len(labels)) % KEPT_BACK == 0
    return Digits(pixels[~back], labels[~back], pixels[back], labels[back])


def lineage(event: Document, digits: Digits, accuracy: float) -> Document:
    """Where the version comes from, and how good it is."""
    data = hashlib.sha256(digits.train_rows.tobytes() + digits.train_labels.tobytes()).hexdigest()
    return {
        "parent": event["data"]["version"],
        "data_digest": f"sha256:{data}",
        "metrics": {"accuracy": accuracy},
        "frameworks": {"scikit-learn": sklearn.__version__},
        "tags": {"event": event["id"]},
        "card": {
            "summary": f"Handwritten digits of {len(LABELS)} classes, trained on what the gateway saw",
            "training_data": f"{len(digits.train_rows)} captured rows with the labels that came for them",
        },
    }


if __name__ == "__main__":
    main(sys.argv[1])
