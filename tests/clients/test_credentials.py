"""Unmodified clients with credentials: tritonclient over http, grpc and their asyncio forms, and the kserve client."""

import asyncio
import importlib.util
import json
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from tests import harness, zoo
from tests.harness import PATIENCE_S, Server
from tests.keys import ACCEPT_KEYS, create_key

ROW = np.array([[1, 2, 3]], np.float32)
SCRIPT = Path(__file__).with_name("kserve_credentials.py")


class Guarded(NamedTuple):
    """A gateway with authentication, and a key that may ask the model digits."""

    server: Server
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request, anew each time: the http client adds others to those it is given."""
        return {"authorization": f"Bearer {self.key}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("credentials")
    for name in ("digits", "other"):
        zoo.place(folder / "models", name, {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    with harness.running(folder / "models", folder / "run", "--workers", "1", env=ACCEPT_KEYS) as server:
        key = create_key(folder / "run", "bot", "caller", models=["digits"])
        yield Guarded(server, key)


def inputs(module: Any) -> list[Any]:
    """One row."""
    tensor = module.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(ROW)
    return [tensor]


def outcome(call: Callable[..., Any], model: str, module: Any, headers: dict[str, str] | None) -> str:
    """ "ok", or the status or text of the error."""
    try:
        call(model, inputs(module), headers=headers)
    except InferenceServerException as error:
        return str(error.status() or error.message())
    return "ok"


@pytest.mark.parametrize(
    ("module", "address", "refused", "hidden"),
    [
        (triton_http, "http", "401", "unknown model"),
        (triton_grpc, "grpc", "StatusCode.UNAUTHENTICATED", "StatusCode.NOT_FOUND"),
    ],
)
def test_tritonclient(guarded: Guarded, module: Any, address: str, refused: str, hidden: str) -> None:
    client = module.InferenceServerClient(getattr(guarded.server, address))
    assert client.is_server_ready()
    assert outcome(client.infer, "digits", module, guarded.headers) == "ok"
    assert refused in outcome(client.infer, "digits", module, None)
    found = outcome(client.infer, "other", module, guarded.headers)
    assert hidden in found or found == "404"
    assert client.is_model_ready("digits", headers=guarded.headers)
    assert client.get_model_metadata("digits", headers=guarded.headers)
    index = client.get_model_repository_index(headers=guarded.headers)
    names = [item["name"] for item in index] if module is triton_http else [item.name for item in index.models]
    assert names == ["digits"]
    with pytest.raises(InferenceServerException):
        client.unload_model("digits", headers=guarded.headers)
    client.close()


def test_tritonclient_with_asyncio(guarded: Guarded) -> None:
    async def ask(module: Any, sides: Any, address: str) -> None:
        client = module.InferenceServerClient(address)
        answer = await client.infer("digits", inputs(sides), headers=guarded.headers)
        assert answer.as_numpy("y").tolist() == [[3.0, 5.0, 7.0]]
        with pytest.raises(InferenceServerException):
            await client.infer("digits", inputs(sides))
        await client.close()

    asyncio.run(ask(triton_http_aio, triton_http, guarded.server.http))
    asyncio.run(ask(triton_grpc_aio, triton_grpc, guarded.server.grpc))


def test_a_stream_of_tritonclient(guarded: Guarded) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = triton_grpc.InferenceServerClient(guarded.server.grpc)
    client.start_stream(lambda result, error: answers.put((result, error)), headers=guarded.headers)
    for model in ("digits", "other"):
        client.async_stream_infer(model, inputs(triton_grpc))
    first, second = (answers.get(timeout=PATIENCE_S) for _ in range(2))
    assert first[1] is None and first[0].as_numpy("y").tolist() == [[3.0, 5.0, 7.0]]
    assert "unknown model" in str(second[1])
    client.stop_stream()
    client.close()


def test_the_kserve_client(guarded: Guarded) -> None:
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("kserve is not installed")
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), guarded.server.http, guarded.server.grpc, guarded.key],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, str] = json.loads(ended.stdout.splitlines()[-1])
    assert [found[name] for name in ("rest", "grpc", "rest ready", "grpc ready")] == ["ok", "ok", "True", "True"]
    assert "unknown model" in found["grpc hidden"] and "ok" not in (found["rest hidden"], found["rest without"])
    assert "credential" in found["grpc without"]
