"""A BentoML service with one model, as its documentation teaches; runs in BentoML's own environment."""

from typing import Any

import bentoml  # type: ignore[import-not-found]  # of another environment
import numpy as np

from loadtests.peers.model import PeerModel


@bentoml.service(workers=1, traffic={"timeout": 60})
class Bench:
    """JSON rows in, lists out."""

    def __init__(self) -> None:
        self.held = PeerModel()

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: list[list[float]]) -> dict[str, Any]:
        """A run."""
        return {name: values.tolist() for name, values in self.held.run(np.array(rows, np.float32)).items()}
