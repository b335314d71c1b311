"""LitServe with one model, as its documentation teaches; runs in LitServe's own environment."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]  # of another environment
import numpy as np

from loadtests.peers.model import PeerModel


class Bench(litserve.LitAPI):  # type: ignore[misc]
    """JSON rows in, lists out."""

    def setup(self, _: str) -> None:
        """Load."""
        self.held = PeerModel()

    def decode_request(self, request: dict[str, Any]) -> Any:
        """A body."""
        return np.array(request["rows"], np.float32)

    def predict(self, rows: Any) -> dict[str, Any]:
        """A run."""
        return self.held.run(rows)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """An answer."""
        return {name: values.tolist() for name, values in output.items()}


if __name__ == "__main__":
    litserve.LitServer(Bench(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
