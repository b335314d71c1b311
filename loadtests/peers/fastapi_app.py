"""A hand-written FastAPI endpoint for one model, as its documentation teaches: pydantic in, dictionary out."""

import argparse
import socket
from typing import Any

import fastapi
import numpy as np
import uvicorn
from pydantic import BaseModel

from loadtests.models import MODELS, BenchModel, Floats
from loadtests.processes import write_ready


class Rows(BaseModel):
    """The request: each row a flat list."""

    rows: list[list[float]]


def app(model: BenchModel, threads: int) -> fastapi.FastAPI:
    """``/predict`` takes JSON rows, ``/predict-raw`` the bytes of one row (what one does with images)."""
    service = fastapi.FastAPI()
    session = model.session(threads)

    def run(rows: Floats) -> dict[str, Any]:
        outputs = session.run(None, {model.input: rows.reshape(-1, *model.row)})
        return {name: values.tolist() for name, values in zip(model.outputs, outputs, strict=True)}

    @service.post("/predict")
    async def predict(request: Rows) -> dict[str, Any]:
        return run(np.array(request.rows, np.float32))

    @service.post("/predict-raw")
    async def predict_raw(request: fastapi.Request) -> dict[str, Any]:
        return run(np.frombuffer(await request.body(), np.float32))

    return service


def main() -> None:
    """Serve one model until killed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.peers.fastapi_app", description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--threads", type=int, default=1, help="threads of the session")
    parser.add_argument("--ready-file", required=True, help="where to write the address once it listens")
    arguments = parser.parse_args()
    service = app(MODELS[arguments.model], arguments.threads)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    write_ready(arguments.ready_file, listener.getsockname()[1])
    config = uvicorn.Config(
        service, loop="uvloop", http="httptools", access_log=False, log_level="warning", timeout_keep_alive=75
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
