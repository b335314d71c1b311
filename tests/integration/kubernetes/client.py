"""What the node and the callers of a pod do, as a program inside its network: probes, and calls of public clients.

Takes a list of calls as JSON, such as ["get", URL], and prints the list of what they gave.
"""

import asyncio
import json
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

ROW = [[1.0, 2.0, 3.0]]


def get(url: str, *headers: str) -> int:
    """The status of a GET; certificates are not verified, as the node's probes do not."""
    pairs = dict(header.split(": ", 1) for header in headers)
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=pairs), timeout=120, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def grpc_health(address: str) -> int:
    """The status that grpc.health.v1 gives for the whole server: 1 is serving."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=120, wait_for_ready=True).status)


def triton(transport: str, address: str, model: str) -> Any:
    """The version and the output of tritonclient, by http or grpc."""
    import numpy as np

    client: Any = __import__(f"tritonclient.{transport}", fromlist=["InferenceServerClient"])
    x = client.InferInput("x", [1, 3], "FP32")
    x.set_data_from_numpy(np.array(ROW, np.float32))
    result = client.InferenceServerClient(address).infer(model, [x])
    answer = result.get_response()
    version = answer["model_version"] if transport == "http" else answer.model_version
    return [version, result.as_numpy("y").tolist()]


def kserve(url: str, model: str) -> Any:
    """The output of the kserve client, by REST."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    async def ask() -> Any:
        x = InferInput("x", [1, 3], "FP32", data=ROW)
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            answer: Any = await client.infer(url, InferRequest(model_name=model, infer_inputs=[x]), model_name=model)
            return answer.outputs[0].as_numpy().tolist()

    return asyncio.run(ask())


def kserve_v1(url: str, model: str) -> Any:
    """The answer to the kserve client in protocol V1."""
    from kserve import InferenceRESTClient, RESTConfig

    async def ask() -> Any:
        async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
            return await client.infer(url, {"instances": ROW}, model_name=model)

    return asyncio.run(ask())


CALLS: dict[str, Callable[..., Any]] = {
    "get": get,
    "grpc_health": grpc_health,
    "triton": triton,
    "kserve": kserve,
    "kserve_v1": kserve_v1,
}

if __name__ == "__main__":
    json.dump([CALLS[name](*arguments) for name, *arguments in json.loads(sys.argv[1])], sys.stdout)
