"""The demo's classifiers and its scans of digits, for the stories in the browser: versions as files to push, callers
that send scans, and the slip of the scanner by which they drift."""

import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from penstock.cli.demo.loop import shift_digits
from penstock.cli.demo.story import request
from penstock.cli.demo.traffic import RestTransport
from penstock.cli.demo.training import MODEL, DigitRows, VersionRecipe, list_recipes, read_digits, train, write_version
from penstock.core.tensors import Array
from tests.harness import PATIENCE_S, Server, wait_until

__all__ = ["MODEL", "Digits", "calling", "label", "scan"]

EPOCHS = {"1": 8, "2": 30, "3": 30}
"""Enough for each version to be as good as in the demo, but for a point or two."""

ROWS_A_CALL = 20
PAUSE_S = 0.01
CALLS = count()


@dataclass(frozen=True, slots=True)
class Digits:
    """The scans, the files of versions 1 to 3 (the third is trained on scans that have slipped), and a folder."""

    scans: DigitRows
    folder: Path

    @classmethod
    def made(cls, folder: Path) -> "Digits":
        """Train the versions, and write their files."""
        scans = read_digits()
        later = replace(scans, train_rows=shift_digits(scans.train_rows), test_rows=shift_digits(scans.test_rows))
        first, second = list_recipes()
        third = VersionRecipe("3", "retrained", second.classifier.__class__((64,), random_state=1), 0)
        made = cls(scans, folder)
        for recipe, rows in ((first, scans), (second, scans), (third, later)):
            made._write(recipe, rows)
        return made

    def _write(self, recipe: VersionRecipe, rows: DigitRows) -> None:
        pipeline = train(replace(recipe, epochs=EPOCHS[recipe.version]), rows, lambda _accuracy: None)
        folder = self.folder / recipe.version
        write_version(folder, pipeline)
        with tarfile.open(self.file(recipe.version), "w") as tar:
            for file in folder.iterdir():
                tar.add(file, file.name)

    def file(self, version: str) -> Path:
        """The tar of a version, to push."""
        return self.folder / f"digits-{version}.tar"

    def graph(self, version: str) -> Path:
        """The graph of a version alone, for a model of any name."""
        return self.folder / version / "model.onnx"

    def reference(self) -> bytes:
        """The rows that the first versions were trained on, as the reference of a version."""
        file = self.folder / "train.npz"
        np.savez(file, pixels=self.scans.train_rows, label=self.scans.train_labels)
        return file.read_bytes()


def scan(server: Server, rows: Array) -> list[str]:
    """Send rows to the version that answers; the ids of the requests."""
    ids = []
    for start in range(0, len(rows), ROWS_A_CALL):
        ids.append(f"scan-{next(CALLS)}")
        asked: dict[str, Any] = {**request(rows[start : start + ROWS_A_CALL]), "id": ids[-1]}
        reply = server.rest("POST", f"/v2/models/{MODEL}/infer", asked)
        assert reply.status == 200, reply
    return ids


def label(server: Server, rows: Array, truths: Array) -> None:
    """Send rows, and then what they show."""
    ids = scan(server, rows)
    parts = [truths[start : start + ROWS_A_CALL].tolist() for start in range(0, len(rows), ROWS_A_CALL)]
    reported = {"feedback": [{"id": name, "label": part} for name, part in zip(ids, parts, strict=True)]}
    path = f"/v2/models/{MODEL}/feedback"
    wait_until(lambda: server.rest("POST", path, reported).json().get("unmatched") == 0, PATIENCE_S, "the labels")


@contextmanager
def calling(server: Server, rows: Array, threads: int = 2) -> Iterator[None]:
    """Callers of the demo that send one row after the other, for the time of a block."""
    over = threading.Event()
    transports = [
        RestTransport(server.http, "", *(request(row[None]) for row in rows[n::threads])) for n in range(threads)
    ]

    def work(transport: RestTransport) -> None:
        while not over.wait(PAUSE_S):
            transport.call()
        transport.close()

    running = [threading.Thread(target=work, args=(transport,), daemon=True) for transport in transports]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join(PATIENCE_S)
