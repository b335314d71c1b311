"""Unmodified tritonclient.grpc and tritonclient.grpc.aio."""

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.grpc import aio as triton_aio
from tritonclient.utils import InferenceServerException

from penstock.core.tensors import NUMPY_TYPES
from tests.integration.api_grpc.worker import CALL_SECONDS, Worker

Array = np.ndarray[Any, Any]


@pytest.fixture
def client(worker: Worker) -> Iterator[Any]:
    """A client of its own for each test."""
    with triton.InferenceServerClient(worker.address) as opened:
        yield opened


def stated(name: str, datatype: str, array: Array, module: Any = triton) -> Any:
    given = module.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def sample(datatype: str) -> Array:
    if datatype == "BYTES":
        return np.array([["a", "Füße"], ["", "日本"]], object)
    if datatype == "BF16":
        return np.array([[1.0, -2.5], [0.0, 3.0]], ml_dtypes.bfloat16)
    return np.array([[0, 1], [2, 3]]).astype(NUMPY_TYPES[datatype])


@pytest.mark.parametrize("datatype", list(NUMPY_TYPES))
def test_every_datatype_comes_back_to_tritonclient(client: Any, datatype: str) -> None:
    array = sample(datatype)
    result = client.infer(f"identity_{datatype.lower()}", [stated("x", datatype, array)])
    answer = result.as_numpy("y")
    if datatype == "BYTES":
        answer = np.array([[item.decode() for item in row] for row in answer], object)
    assert answer.shape == array.shape
    assert (answer == array).all()


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_options_of_a_call(client: Any, coding: str | None) -> None:
    result = client.infer(
        "pair",
        [stated("x", "FP32", np.ones((1, 3), np.float32))],
        model_version="1",
        outputs=[triton.InferRequestedOutput("y")],
        request_id="mine",
        sequence_id=5,
        sequence_start=True,
        priority=2,
        timeout=60_000_000,
        client_timeout=CALL_SECONDS,
        headers={"x-any": "thing"},
        compression_algorithm=coding,
        parameters={"my": "own"},
    )
    assert result.as_numpy("y").tolist() == [[2, 2, 2]]
    response = result.get_response()
    assert (response.id, response.model_version) == ("mine", "1")


def test_tritonclient_gets_classes(client: Any) -> None:
    requested = triton.InferRequestedOutput("probabilities", class_count=2)
    rows = stated("x", "FP32", np.ones((3, 5), np.float32))
    classes = client.infer("classifier", [rows], outputs=[requested]).as_numpy("probabilities")
    assert classes.shape == (3, 2)
    assert classes[0, 0].count(b":") == 1


def test_tritonclient_reads_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pair", "2")
    assert not client.is_model_ready("loading")
    assert client.get_server_metadata(as_json=True)["name"] == "penstock"
    assert client.get_model_metadata("pair", as_json=True)["versions"] == ["1", "2"]
    assert client.get_model_config("pair", as_json=True)["config"]["backend"] == "onnxruntime"
    assert client.get_inference_statistics("pair", as_json=True)["model_stats"][0]["name"] == "pair"
    assert "pair" in {model["name"] for model in client.get_model_repository_index(as_json=True)["models"]}
    client.load_model("pair", config="{}")
    client.unload_model("pair")


@pytest.mark.parametrize(
    ("work", "status"),
    [
        (lambda client: client.infer("nobody", []), "StatusCode.NOT_FOUND"),
        (lambda client: client.infer("pair", []), "StatusCode.INVALID_ARGUMENT"),
        (lambda client: client.get_model_metadata("pair", "9"), "StatusCode.NOT_FOUND"),
        (lambda client: client.register_system_shared_memory("r", "/r", 4), "StatusCode.UNIMPLEMENTED"),
        (lambda client: client.register_cuda_shared_memory("r", b"cg==", 0, 4), "StatusCode.UNIMPLEMENTED"),
        (lambda client: client.get_log_settings(), "StatusCode.UNIMPLEMENTED"),
        (lambda client: client.get_trace_settings(), "StatusCode.UNIMPLEMENTED"),
        (lambda client: client.load_model("nobody"), "StatusCode.NOT_FOUND"),
    ],
)
def test_errors_reach_the_client(client: Any, work: Any, status: str) -> None:
    with pytest.raises(InferenceServerException) as raised:
        work(client)
    assert raised.value.status() == status


def test_tritonclient_infers_asynchronously(client: Any) -> None:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for x in range(20):
        given = stated("x", "FP32", np.full((1, 3), x, np.float32))
        client.async_infer("pair", [given], partial(_put, answers), request_id=str(x))
    results = [answers.get(timeout=CALL_SECONDS) for _ in range(20)]
    assert all(error is None for _, error in results)
    assert {result.get_response().id for result, _ in results} == {str(x) for x in range(20)}


def _put(answers: "queue.SimpleQueue[Any]", result: Any, error: Any) -> None:
    answers.put((result, error))


def test_tritonclient_streams(client: Any) -> None:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.start_stream(partial(_put, answers))
    ones = np.ones((1, 3), np.float32)
    client.async_stream_infer("pair", [stated("x", "FP32", ones)], request_id="a")
    client.async_stream_infer("nobody", [stated("x", "FP32", ones)], request_id="b")
    client.async_stream_infer("pair", [stated("x", "FP32", ones)], enable_empty_final_response=True, request_id="c")
    results = [answers.get(timeout=CALL_SECONDS) for _ in range(4)]
    client.stop_stream()
    first, wrong, last, closing = results
    assert first[0].as_numpy("y").tolist() == [[4, 4, 4]]
    assert "unknown model 'nobody'" in str(wrong[1])
    assert last[0].get_response().id == "c"
    assert closing[0].get_response().parameters["triton_final_response"].bool_param


def test_the_aio_tritonclient_infers_and_streams(worker: Worker) -> None:
    async def asked() -> None:
        async with triton_aio.InferenceServerClient(worker.address) as client:
            assert await client.is_server_ready()
            given = [stated("x", "FP32", np.full((1, 3), x, np.float32), triton_aio) for x in range(10)]
            results = await asyncio.gather(*[client.infer("pair", [item]) for item in given])
            assert [result.as_numpy("y")[0, 0] for result in results] == [2 * x + 2 for x in range(10)]

            async def requests() -> AsyncIterator[dict[str, Any]]:
                for item in given:
                    yield {"model_name": "pair", "inputs": [item]}

            streamed = [answer async for answer in client.stream_infer(requests())]
            assert [error for _, error in streamed] == [None] * 10
            assert [result.as_numpy("y")[0, 0] for result, _ in streamed] == [2 * x + 2 for x in range(10)]
            with pytest.raises(InferenceServerException) as raised:
                await client.infer("nobody", [given[0]])
            assert raised.value.status() == "StatusCode.NOT_FOUND"

    asyncio.run(asyncio.wait_for(asked(), CALL_SECONDS))
