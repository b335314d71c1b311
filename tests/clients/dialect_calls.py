"""The calls of the clients of KServe's V1 protocol and of MLflow, made in a process of its own.

Prints one JSON object: for each call its result, or the error it met.
"""

import asyncio
import importlib
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceRESTClient, RESTConfig
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

pd: Any = importlib.import_module("pandas")  # ships no types
ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


async def by_kserve(address: str) -> dict[str, Any]:
    """Every call of KServe's REST client."""
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        try:
            error = str(await client.infer(base, {"instances": ROWS}, model_name="nobody"))
        except Exception as met:
            error = f"{type(met).__name__}: {met}"
        return {
            "ready": await client.is_model_ready(base, "tiny"),
            "live": await client.is_server_live(base),
            "predictions": await client.infer(base, {"instances": ROWS}, model_name="tiny"),
            "error": error,
        }


def by_mlflow(address: str) -> dict[str, Any]:
    """Every call of MLflow's client."""
    host, port = address.split(":")
    client = ScoringServerClient(host, int(port))
    client.ping()
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c"])
    try:
        error = str(client.invoke(pd.DataFrame([["x", 1.0, 2.0]])))
    except Exception as met:
        error = str(met)
    return {
        "version": client.get_version(),
        "frame": client.invoke(frame, params={"k": 1}).to_json(),
        "predictions": client.invoke(frame).get_predictions().to_dict(orient="list"),
        "tensor": client.invoke(np.array(ROWS)).to_json(),
        "list": client.invoke(ROWS).to_json(),
        "error": error,
    }


if __name__ == "__main__":
    http = sys.argv[1]
    sys.stdout.write(json.dumps({"kserve": asyncio.run(by_kserve(http)), "mlflow": by_mlflow(http)}) + "\n")
