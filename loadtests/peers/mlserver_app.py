"""An MLServer runtime with one model, as its documentation teaches; runs in MLServer's own environment."""

from typing import Any

from mlserver import MLModel  # type: ignore[import-not-found]  # of another environment
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceResponse  # type: ignore[import-not-found]

from loadtests.peers.model import PeerModel


class Bench(MLModel):  # type: ignore[misc]
    """The V2 protocol, as the server speaks it."""

    async def load(self) -> bool:
        """Load."""
        self.held = PeerModel()
        return True

    async def predict(self, payload: Any) -> Any:
        """A run."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        outputs = [NumpyCodec.encode_output(name, values) for name, values in self.held.run(rows).items()]
        return InferenceResponse(model_name=self.name, model_version="1", outputs=outputs)
