"""A KServe custom model, as its documentation teaches; runs in KServe's own environment."""

import sys
from typing import Any

from kserve import InferOutput, InferResponse, Model, ModelServer

from loadtests.peers.model import PeerModel

_DATATYPES = {"f": "FP32", "i": "INT64"}


class Bench(Model):  # type: ignore[misc]
    """The V2 protocol, as the server speaks it."""

    def __init__(self) -> None:
        self.held = PeerModel()
        super().__init__(self.held.model.name)
        self.ready = True

    def load(self) -> bool:
        """Loaded already."""
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """A run."""
        outputs = []
        for name, values in self.held.run(payload.inputs[0].as_numpy()).items():
            output = InferOutput(name=name, shape=list(values.shape), datatype=_DATATYPES[values.dtype.kind])
            output.set_data_from_numpy(values, binary_data=False)
            outputs.append(output)
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    ModelServer(
        http_port=int(sys.argv[1]),
        grpc_port=int(sys.argv[2]),
        workers=1,
        access_log_format=None,
        enable_latency_logging=False,
    ).start([Bench()])
