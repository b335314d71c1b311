"""Unmodified clients with credentials, with and without TLS: tritonclient over http, grpc and their asyncio forms, and
the kserve client.
"""

import asyncio
import importlib.util
import json
import queue
import ssl
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
from tests.certificates import Pair, issue, make_authority
from tests.harness import PATIENCE_S, Server
from tests.keys import ACCEPT_KEYS, create_key

ROW = np.array([[1, 2, 3]], np.float32)
SCRIPT = Path(__file__).with_name("kserve_credentials.py")


class Guarded(NamedTuple):
    """A gateway with authentication, a key that may ask the model digits, and the authority of its certificate, if it
    has one."""

    server: Server
    key: str
    authority: Pair | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request, anew each time: the http client adds others to those it is given."""
        return {"authorization": f"Bearer {self.key}"}

    @property
    def context(self) -> ssl.SSLContext | None:
        """What clients trust."""
        file = None if self.authority is None else str(self.authority.certificate)
        return ssl.create_default_context(cafile=file) if file else None

    def client(self, module: Any, *, trusts: bool = True) -> Any:
        """A client of one of tritonclient's modules, of a gateway with TLS one that ``trusts`` its authority."""
        by_http = module in (triton_http, triton_http_aio)
        address = self.server.http if by_http else self.server.grpc
        if self.authority is None:
            return module.InferenceServerClient(address)
        file = str(self.authority.certificate) if trusts else None
        if module is triton_http_aio:
            return module.InferenceServerClient(address, ssl=True, ssl_context=self.context if trusts else None)
        if module is triton_http:
            options = {"ca_certs": file, "cert_reqs": ssl.CERT_REQUIRED} if trusts else {}
            return module.InferenceServerClient(address, ssl=True, ssl_options=options)
        return module.InferenceServerClient(address, ssl=True, root_certificates=file)


@pytest.fixture(scope="module", params=["plain", "tls"])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, env, authority = tmp_path_factory.mktemp("credentials"), dict(ACCEPT_KEYS), None
    if request.param == "tls":
        authority = make_authority(folder)
        chain = issue(authority, folder, "server")
        env |= {"PENSTOCK_TLS__CERTIFICATE_FILE": str(chain.certificate), "PENSTOCK_TLS__KEY_FILE": str(chain.key)}
    for name in ("digits", "other"):
        zoo.place(folder / "models", name, {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    with harness.running(folder / "models", folder / "run", "--workers", "1", env=env) as server:
        key = create_key(folder / "run", "bot", "caller", models=["digits"])
        yield Guarded(server, key, authority)


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
    ("module", "refused", "hidden"),
    [
        (triton_http, "401", "unknown model"),
        (triton_grpc, "StatusCode.UNAUTHENTICATED", "StatusCode.NOT_FOUND"),
    ],
)
def test_tritonclient_sends_credentials(guarded: Guarded, module: Any, refused: str, hidden: str) -> None:
    client = guarded.client(module)
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
    if guarded.authority is not None:  # a gateway for which nobody vouches gets no key
        stranger = guarded.client(module, trusts=False)
        with pytest.raises((InferenceServerException, ssl.SSLError)) as distrusted:
            stranger.is_model_ready("digits", headers=guarded.headers)
        assert "certificate" in str(distrusted.value).lower()
        stranger.close()


def test_tritonclient_with_asyncio(guarded: Guarded) -> None:
    async def ask(module: Any, sides: Any) -> None:
        client = guarded.client(module)
        answer = await client.infer("digits", inputs(sides), headers=guarded.headers)
        assert answer.as_numpy("y").tolist() == [[3.0, 5.0, 7.0]]
        with pytest.raises(InferenceServerException):
            await client.infer("digits", inputs(sides))
        await client.close()

    asyncio.run(ask(triton_http_aio, triton_http))
    asyncio.run(ask(triton_grpc_aio, triton_grpc))


def test_a_stream_of_tritonclient(guarded: Guarded) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = guarded.client(triton_grpc)
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
    trusted = [] if guarded.authority is None else [str(guarded.authority.certificate)]
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), guarded.server.http, guarded.server.grpc, guarded.key, *trusted],
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
