"""The calls of the kserve client, made in a process of its own, as its messages are named like tritonclient's.

Prints one JSON object: for each call its result, or the error it met.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferOutput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.infer_type import RequestedOutput

NUMBER = np.array([[1, -2, 3]], np.float32)
KEY = np.array([[5, 6]], np.int64)


def request(model: str, binary: bool, outputs: list[Any] | None = None) -> Any:
    """A request for ``mixed`` with both inputs in one form."""
    inputs = []
    for name, array, datatype in (("number", NUMBER, "FP32"), ("key", KEY, "INT64")):
        made = InferInput(name, list(array.shape), datatype)
        made.set_data_from_numpy(array, binary_data=binary)
        inputs.append(made)
    return InferRequest(model_name=model, infer_inputs=inputs, request_id="k-1", request_outputs=outputs)


def described(response: Any) -> dict[str, Any]:
    """What came back, as JSON."""
    outputs: list[InferOutput] = response.outputs
    return {
        "model": response.model_name,
        "id": response.id,
        "outputs": {output.name: [output.datatype, output.as_numpy().tolist()] for output in outputs},
    }


async def over_rest(address: str) -> dict[str, Any]:
    """Every call of the REST client."""
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        wanted = [RequestedOutput("next", {"binary_data": True}), RequestedOutput("doubled", {"binary_data": False})]
        return {
            "live": await client.is_server_live(base),
            "ready": await client.is_server_ready(base),
            "model ready": await client.is_model_ready(base, "mixed"),
            "model broken": await client.is_model_ready(base, "broken"),
            "json": described(await client.infer(base, request("mixed", binary=False), model_name="mixed")),
            "binary": described(await client.infer(base, request("mixed", binary=True), model_name="mixed")),
            "chosen": described(await client.infer(base, request("mixed", True, wanted), model_name="mixed")),
            "unknown": await error_of(lambda: client.infer(base, request("nobody", True), model_name="nobody")),
        }


async def over_grpc(address: str) -> dict[str, Any]:
    """Every call of the gRPC client, and KServe's own load and unload messages."""
    async with InferenceGRPCClient(address) as client:
        stub = client._client_stub  # the client has no methods for the repository
        unloaded = await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="policy_all"))
        gone = await client.is_model_ready("policy_all")
        loaded = await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="policy_all"))
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model ready": await client.is_model_ready("mixed"),
            "model broken": await client.is_model_ready("broken"),
            "typed": described(await client.infer(request("mixed", binary=False))),
            "raw": described(await client.infer(request("mixed", binary=True))),
            "unknown": await error_of(lambda: client.infer(request("nobody", True))),
            "unloaded": [unloaded.model_name, unloaded.isUnloaded, gone],
            "loaded": [loaded.model_name, loaded.isLoaded, await client.is_model_ready("policy_all")],
        }


async def error_of(call: Callable[[], Awaitable[Any]]) -> str:
    """The text of the error a call must meet."""
    try:
        await call()
    except Exception as error:  # whatever the client raises is what its user sees
        return str(error)
    return ""


async def main(http: str, grpc: str) -> None:
    """Make every call and print what happened."""
    print(json.dumps({"rest": await over_rest(http), "grpc": await over_grpc(grpc)}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
