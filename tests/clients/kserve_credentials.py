"""The calls of the kserve client with a credential, made in a process of its own; prints one JSON object.

With the certificate of an authority as the last argument, they are made over TLS.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(model: str) -> Any:
    """A request for one row."""
    tensor = InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2, 3]], np.float32), binary_data=True)
    return InferRequest(model_name=model, infer_inputs=[tensor])


async def outcome(call: Awaitable[Any]) -> str:
    """ "ok", or the text of the error."""
    try:
        await call
    except Exception as error:
        return str(error)
    return "ok"


async def main(http: str, grpc: str, key: str, authority: str = "") -> None:
    """Make every call with and without the key."""
    fields = {"authorization": f"Bearer {key}"}
    base, found = f"{'https' if authority else 'http'}://{http}", {}
    trusted = ssl.create_default_context(cafile=authority) if authority else True
    async with InferenceRESTClient(RESTConfig(protocol="v2", verify=trusted)) as client:
        found["rest"] = await outcome(client.infer(base, request("digits"), headers=fields, model_name="digits"))
        found["rest hidden"] = await outcome(client.infer(base, request("other"), headers=fields, model_name="other"))
        found["rest without"] = await outcome(client.infer(base, request("digits"), model_name="digits"))
        found["rest ready"] = str(await client.is_server_ready(base))
    async with InferenceGRPCClient(grpc, use_ssl=bool(authority), root_certificates=authority or None) as client:
        metadata = list(fields.items())
        found["grpc"] = await outcome(client.infer(request("digits"), headers=metadata))
        found["grpc hidden"] = await outcome(client.infer(request("other"), headers=metadata))
        found["grpc without"] = await outcome(client.infer(request("digits")))
        found["grpc ready"] = str(await client.is_server_ready())
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
