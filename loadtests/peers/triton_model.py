"""A model of Triton's Python backend; runs in the interpreter that the server's binary starts."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the server brings it

from loadtests.peers.model import PeerModel


class TritonPythonModel:
    """Runs of all requests that the server has joined."""

    def initialize(self, _: dict[str, Any]) -> None:
        """Load."""
        self.held = PeerModel()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One run, and each request its rows."""
        model = self.held.model
        rows = [pb_utils.get_input_tensor_by_name(request, model.input).as_numpy() for request in requests]
        outputs, start, found = self.held.run(np.concatenate(rows)), 0, []
        for row in rows:
            stop = start + len(row)
            tensors = [
                pb_utils.Tensor(name, values[start:stop].reshape(len(row), -1)) for name, values in outputs.items()
            ]
            found.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start = stop
        return found
