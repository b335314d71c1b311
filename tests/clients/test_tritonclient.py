"""Unmodified tritonclient: http, grpc and their asyncio forms, every method that a served model has an answer for."""

import asyncio
import gc
import queue
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from penstock.proto import grpc_service_pb2, model_config_pb2
from tests import zoo
from tests.harness import PATIENCE_S, Server

NUMBER = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
KEY = np.array([[1, 2], [3, 4]], np.int64)
ARRAYS: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 1 << 31]], np.uint32),
    "UINT64": np.array([[0, 1 << 63]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-32768, 32767]], np.int16),
    "INT32": np.array([[-(1 << 31), 7]], np.int32),
    "INT64": np.array([[-(1 << 63), 7]], np.int64),
    "FP16": np.array([[0.5, np.inf]], np.float16),
    "FP32": np.array([[0.1, np.nan]], np.float32),
    "FP64": np.array([[0.1, -0.0]], np.float64),
    "BYTES": np.array([["ä".encode(), b""]], object),
}


@pytest.fixture
def http(server: Server) -> Iterator[Any]:
    """The blocking HTTP client."""
    client = triton_http.InferenceServerClient(server.http, concurrency=4)
    yield client
    client.close()


@pytest.fixture
def grpc(server: Server) -> Iterator[Any]:
    """The blocking gRPC client."""
    client = triton_grpc.InferenceServerClient(server.grpc)
    yield client
    client.close()


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest) -> Any:
    """Both blocking clients."""
    return request.getfixturevalue(request.param)


def module(client: Any) -> Any:
    """The module a client comes from: it brings the input and output classes."""
    return triton_http if isinstance(client, triton_http.InferenceServerClient) else triton_grpc


def given(kind: Any, name: str, array: Any, **options: Any) -> Any:
    """An input of either module."""
    made = kind.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, **options)
    return made


def mixed(kind: Any) -> list[Any]:
    """The inputs of ``mixed``."""
    return [given(kind, "number", NUMBER), given(kind, "key", KEY)]


def test_tritonclient_reads_health(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pair", "1")
    assert not client.is_model_ready("broken")


def test_metadata_and_configuration(http: Any, grpc: Any) -> None:
    assert http.get_server_metadata() == grpc.get_server_metadata(as_json=True)
    over_http, over_grpc = http.get_model_metadata("mixed"), grpc.get_model_metadata("mixed")
    assert [item["name"] for item in over_http["inputs"]] == [item.name for item in over_grpc.inputs]
    assert http.get_model_config("batched")["max_batch_size"] == 4
    assert grpc.get_model_config("batched").config.max_batch_size == 4
    assert http.get_model_config("batched", "1")["name"] == "batched"


def test_statistics_and_repository(http: Any, grpc: Any) -> None:
    grpc.infer("counted", [given(triton_grpc, "x", NUMBER)])
    over_http = http.get_inference_statistics("counted")["model_stats"][0]
    over_grpc = grpc.get_inference_statistics("counted").model_stats[0]
    assert over_http["inference_count"] == over_grpc.inference_count >= 2
    assert over_grpc.inference_stats.success.ns > 0
    assert http.get_inference_statistics()["model_stats"]
    names = {line["name"] for line in http.get_model_repository_index()}
    assert names == {line.name for line in grpc.get_model_repository_index().models}
    assert "broken" in names


def test_load_and_unload(client: Any) -> None:
    client.unload_model("policy_all")
    assert not client.is_model_ready("policy_all")
    client.load_model("policy_all")
    assert client.is_model_ready("policy_all")
    client.load_model("policy_all", config=zoo.load_config(max_batch_size=2))
    config = client.get_model_config("policy_all")
    assert (config["max_batch_size"] if isinstance(config, dict) else config.config.max_batch_size) == 2
    client.load_model("policy_all")
    with pytest.raises(InferenceServerException, match="nobody"):
        client.load_model("nobody")


@pytest.mark.parametrize("datatype", ARRAYS)
def test_every_datatype_comes_back(client: Any, datatype: str) -> None:
    array = ARRAYS[datatype]
    result = client.infer(f"identity_{datatype.lower()}", [given(module(client), "x", array)])
    back = result.as_numpy("y")
    assert back.tolist() == array.tolist() if datatype == "BYTES" else back.tobytes() == array.tobytes()
    assert back.shape == array.shape


def test_bfloat16_comes_back(client: Any) -> None:
    array = np.array([[1.5, -2.25]], ml_dtypes.bfloat16)
    made = module(client).InferInput("x", array.shape, "BF16")
    made.set_data_from_numpy(array)
    assert client.infer("identity_bf16", [made]).as_numpy("y").astype(np.float32).tolist() == [[1.5, -2.25]]


def test_outputs_may_be_chosen(client: Any) -> None:
    kind = module(client)
    requested = [kind.InferRequestedOutput("next"), kind.InferRequestedOutput("doubled")]
    result = client.infer("mixed", mixed(kind), outputs=requested, request_id="abc", model_version="1")
    assert result.as_numpy("next").tolist() == (KEY + 1).tolist()
    assert result.as_numpy("doubled").tolist() == (NUMBER * 2).tolist()
    assert result.as_numpy("positive") is None
    response = result.get_response()
    identity = response["id"] if isinstance(response, dict) else response.id
    assert identity == "abc"


def test_tritonclient_gets_classes(client: Any) -> None:
    kind = module(client)
    requested_output = kind.InferRequestedOutput("probabilities", class_count=2)
    result = client.infer("labelled", [given(kind, "x", np.ones((1, 5), np.float32))], outputs=[requested_output])
    first = result.as_numpy("probabilities")[0][0].decode().split(":")
    assert first[2] == zoo.LABELS[int(first[1])]


@pytest.mark.parametrize("binary", [(True, False), (False, True), (False, False)])
def test_json_and_binary_parts(http: Any, binary: tuple[bool, bool]) -> None:
    inputs = [
        given(triton_http, "number", NUMBER, binary_data=binary[0]),
        given(triton_http, "key", KEY, binary_data=binary[1]),
    ]
    requested = [
        triton_http.InferRequestedOutput("doubled", binary_data=binary[1]),
        triton_http.InferRequestedOutput("next", binary_data=binary[0]),
    ]
    result = http.infer("mixed", inputs, outputs=requested)
    assert result.as_numpy("doubled").tolist() == (NUMBER * 2).tolist()
    assert result.as_numpy("next").tolist() == (KEY + 1).tolist()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_tritonclient_compresses_both_ways(http: Any, grpc: Any, coding: str) -> None:
    large = np.tile(NUMBER, (500, 1))
    over_http = http.infer(
        "counted",
        [given(triton_http, "x", large)],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert over_http.as_numpy("y").tobytes() == large.tobytes()
    over_grpc = grpc.infer("counted", [given(triton_grpc, "x", large)], compression_algorithm=coding)
    assert over_grpc.as_numpy("y").tobytes() == large.tobytes()


def test_tritonclient_makes_asynchronous_calls(http: Any, grpc: Any) -> None:
    waiting = [http.async_infer("mixed", mixed(triton_http)) for _ in range(8)]
    assert all(item.get_result().as_numpy("next").tolist() == (KEY + 1).tolist() for item in waiting)
    done: queue.Queue[Any] = queue.Queue()
    for _ in range(8):
        grpc.async_infer("mixed", mixed(triton_grpc), lambda result, error: done.put((result, error)))
    for _ in range(8):
        result, error = done.get(timeout=PATIENCE_S)
        assert error is None
        assert result.as_numpy("next").tolist() == (KEY + 1).tolist()


def test_tritonclient_streams(grpc: Any) -> None:
    done: queue.Queue[Any] = queue.Queue()
    grpc.start_stream(lambda result, error: done.put((result, error)))
    for number in range(10):
        grpc.async_stream_infer("mixed", mixed(triton_grpc), request_id=str(number))
    grpc.async_stream_infer("nobody", mixed(triton_grpc))
    results = [done.get(timeout=PATIENCE_S) for _ in range(11)]
    grpc.stop_stream()
    assert [result.get_response().id for result, _ in results[:10]] == [str(number) for number in range(10)]
    assert isinstance(results[10][1], InferenceServerException)


def test_errors_are_reported(client: Any) -> None:
    kind = module(client)
    with pytest.raises(InferenceServerException, match="nobody"):
        client.infer("nobody", mixed(kind))
    with pytest.raises(InferenceServerException, match="FP64"):
        client.infer("mixed", [given(kind, "number", NUMBER.astype(np.float64)), given(kind, "key", KEY)])
    with pytest.raises(InferenceServerException, match="key"):
        client.infer("mixed", [given(kind, "number", NUMBER)])
    with pytest.raises(InferenceServerException, match=r"[Dd]eadline"):
        client.infer("slow", [given(kind, "x", np.ones(1, np.float32))], timeout=1000)


def test_what_is_not_there_is_reported_as_examples_expect(client: Any) -> None:
    """They ask before anything is there, let go of everything first, and look at the first words of sentences."""
    assert not client.is_model_ready("nobody")
    client.unload_model("nobody")
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    for status in (client.get_system_shared_memory_status(), client.get_cuda_shared_memory_status()):
        assert not (status if isinstance(status, list) else status.regions)
    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("nobody")
    asks = (client.get_model_metadata, client.get_model_config, client.get_inference_statistics)
    for ask in (*asks, lambda name: client.infer(name, mixed(module(client)))):
        with pytest.raises(InferenceServerException, match="Request for unknown model"):
            ask("nobody")


def test_client_parameters_are_ignored(client: Any) -> None:
    kind = module(client)
    result = client.infer("mixed", mixed(kind), priority=1, parameters={"mine": "x", "number": 3})
    assert result.as_numpy("next").tolist() == (KEY + 1).tolist()


# The asyncio forms.


async def _with_http(address: str, use: Callable[[Any, Any], Awaitable[None]]) -> None:
    with warnings.catch_warnings():
        # Its yes-or-no questions leave their answers unread to the garbage collector, which may come much later.
        warnings.filterwarnings("ignore", "Unclosed connection", ResourceWarning)
        async with triton_http_aio.InferenceServerClient(address) as client:
            await use(client, triton_http_aio)
        gc.collect()


async def _with_grpc(address: str, use: Callable[[Any, Any], Awaitable[None]]) -> None:
    async with triton_grpc_aio.InferenceServerClient(address) as client:
        await use(client, triton_grpc_aio)


@pytest.fixture(params=["http", "grpc"])
def run(request: pytest.FixtureRequest, server: Server) -> Callable[[Callable[[Any, Any], Awaitable[None]]], None]:
    """Runs a coroutine function with an asyncio client of each kind."""
    if request.param == "http":
        return lambda use: asyncio.run(_with_http(server.http, use))
    return lambda use: asyncio.run(_with_grpc(server.grpc, use))


Run = Callable[[Callable[[Any, Any], Awaitable[None]]], None]


def test_tritonclient_with_asyncio_reads_health_and_metadata(run: Run) -> None:
    async def use(client: Any, _: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("pair")
        assert not await client.is_model_ready("broken")
        assert await client.get_server_metadata()
        assert await client.get_model_metadata("mixed")
        assert await client.get_model_config("mixed")
        assert await client.get_model_repository_index()
        assert await client.get_inference_statistics("mixed")
        await client.unload_model("policy_all")
        await client.load_model("policy_all")

    run(use)


def test_tritonclient_with_asyncio_gets_predictions(run: Run) -> None:
    async def use(client: Any, kind: Any) -> None:
        results = await asyncio.gather(*[client.infer("mixed", mixed(kind)) for _ in range(16)])
        for result in results:
            assert result.as_numpy("doubled").tolist() == (NUMBER * 2).tolist()
        with pytest.raises(InferenceServerException, match="nobody"):
            await client.infer("nobody", mixed(kind))

    run(use)


def test_tritonclient_with_asyncio_compresses_both_ways(server: Server) -> None:
    async def use(client: Any, kind: Any) -> None:
        codings = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
        result = await client.infer("mixed", mixed(kind), **codings)
        assert result.as_numpy("next").tolist() == (KEY + 1).tolist()

    asyncio.run(_with_http(server.http, use))


def test_tritonclient_with_asyncio_streams(server: Server) -> None:
    async def use(client: Any, kind: Any) -> None:
        async def requests() -> Any:
            for number in range(5):
                yield {"model_name": "mixed", "inputs": mixed(kind), "request_id": str(number)}

        seen = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            seen.append(result.get_response().id)
        assert seen == ["0", "1", "2", "3", "4"]

    asyncio.run(_with_grpc(server.grpc, use))


# The schema itself.


def _fields(message: Any, into: dict[str, tuple[int, int, bool]]) -> dict[str, tuple[int, int, bool]]:
    for field in message.fields:
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        into[f"{message.full_name}.{field.name}"] = (field.number, field.type, bool(repeated))
    for nested in message.nested_types:
        _fields(nested, into)
    return into


def test_our_messages_hold_all_of_the_clients_fields() -> None:
    own: dict[str, tuple[int, int, bool]] = {}
    triton: dict[str, tuple[int, int, bool]] = {}
    for files, into in (
        ((grpc_service_pb2, model_config_pb2), own),
        ((triton_grpc.service_pb2, triton_grpc.model_config_pb2), triton),
    ):
        for file in files:
            for message in file.DESCRIPTOR.message_types_by_name.values():
                _fields(message, into)
    differing = {name: (spec, own.get(name)) for name, spec in triton.items() if own.get(name) != spec}
    assert not differing


def test_our_service_has_all_of_the_clients_methods() -> None:
    [own] = grpc_service_pb2.DESCRIPTOR.services_by_name.values()
    [triton] = triton_grpc.service_pb2.DESCRIPTOR.services_by_name.values()
    assert own.full_name == triton.full_name
    assert {method.name for method in triton.methods} <= {method.name for method in own.methods}
