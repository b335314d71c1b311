"""The benchmark's model as foreign servers hold it: a session by the rules of ``loadtests.models``."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.models import MODELS


class PeerModel:
    """One session; the environment names its model."""

    def __init__(self) -> None:
        self.model = MODELS[os.environ["BENCH_MODEL"]]
        self._session = self.model.session(int(os.environ["BENCH_THREADS"]))

    def run(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The outputs for rows of the model's input."""
        inputs = {self.model.input: np.ascontiguousarray(rows, np.float32).reshape(-1, *self.model.row)}
        return dict(zip(self.model.outputs, self._session.run(list(self.model.outputs), inputs), strict=True))
