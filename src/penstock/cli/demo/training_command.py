"""The training command of the demo's policy: trains on the captured rows and pushes the new version.

It is what a team would write. Run it as `python -m penstock.cli.demo.training_command OPS` with an event on stdin.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from penstock.cli.addresses import ops_address
from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document
from penstock.cli.demo.training import INPUT, LABELS, MODEL, DigitRows, VersionRecipe, train, write_version
from penstock.cli.upload import read_upload
from penstock.core.tensors import Array
from penstock.engine.scratch import scratch_folder, temporary_folder
from penstock.monitor.tables import read_table

VERSION = "4"
EPOCHS = 80
HELD_OUT = 5
"""One of this number of rows is held out of training, to measure accuracy."""


def main(ops: str) -> None:
    """Train on the captured rows that have labels, and push the version to the gateway at ``ops`` (as for --url)."""
    event = json.load(sys.stdin)
    digits = read_rows(Path(os.environ["PENSTOCK_ROWS"]))
    recipe = VersionRecipe(
        VERSION, "neural network", MLPClassifier((64,), learning_rate_init=0.003, random_state=1), EPOCHS
    )
    pipeline = train(recipe, digits, lambda _accuracy: None)
    accuracy = float(pipeline.score(digits.test_rows, digits.test_labels))
    gateway = AdminApiClient(ops_address(ops))
    with scratch_folder(temporary_folder(), "training") as folder:
        write_version(Path(folder, "version"), pipeline)
        metadata = describe_origin(event, digits, accuracy)
        files = read_upload(Path(folder, "version"))
        gateway.push(MODEL, VERSION, files, metadata, "retrained", lambda _done, _total: None)
        rows = Path(folder, "rows.npz")
        np.savez(rows, pixels=digits.train_rows, label=digits.train_labels)
        gateway.set_reference(MODEL, VERSION, read_upload(rows), lambda _done, _total: None)
    print(f"trained on {len(digits.train_rows)} rows: {accuracy:.1%}")


def read_rows(file: Path) -> DigitRows:
    """Return the captured rows with a label, split into training and held-out rows."""
    table = read_table(file)
    labelled = np.isfinite(table["label"])
    pixels: Array = np.stack(table[INPUT].tolist()).astype(np.float32)[labelled]
    labels = table["label"][labelled].astype(int)
    held_out = np.arange(len(labels)) % HELD_OUT == 0
    return DigitRows(pixels[~held_out], labels[~held_out], pixels[held_out], labels[held_out])


def describe_origin(event: Document, digits: DigitRows, accuracy: float) -> Document:
    """Return the origin of the version and its accuracy."""
    data = hashlib.sha256(digits.train_rows.tobytes() + digits.train_labels.tobytes()).hexdigest()
    return {
        "parent": event["data"]["version"],
        "data_digest": f"sha256:{data}",
        "metrics": {"accuracy": accuracy},
        "frameworks": {"scikit-learn": sklearn.__version__},
        "tags": {"event": event["id"]},
        "card": {
            "summary": f"Handwritten digits of {len(LABELS)} classes, trained on what the gateway saw",
            "training_data": f"{len(digits.train_rows)} captured rows with their labels",
        },
    }


if __name__ == "__main__":
    main(sys.argv[1])
