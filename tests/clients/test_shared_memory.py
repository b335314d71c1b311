"""Tensors in system shared memory, through tritonclient's own module: both transports, all workers, and refusals."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, shared_memory

from penstock.serving.shared_memory import SEGMENTS
from tests import harness, zoo
from tests.harness import Server

KEYS = tuple(f"/penstock-test-{os.getpid()}-{side}" for side in ("in", "out"))
ROWS = np.arange(300_000, dtype=np.float32).reshape(-1, 3)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers that allow the segments of these tests."""
    models = tmp_path_factory.mktemp("models")
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), models / "m" / "1" / "model.onnx")
    zoo.save(zoo.identity("BYTES"), models / "words" / "1" / "model.onnx")
    allowed = {"PENSTOCK_SHARED_MEMORY": f'["/penstock-test-{os.getpid()}-*"]'}
    with harness.running(models, tmp_path_factory.mktemp("server"), "--workers", "2", env=allowed) as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def module(request: pytest.FixtureRequest) -> Any:
    """Both clients."""
    return {"http": triton_http, "grpc": triton_grpc}[request.param]


@pytest.fixture
def client(shared: Server, module: Any) -> Iterator[Any]:
    """A client of the server."""
    made = module.InferenceServerClient(shared.http if module is triton_http else shared.grpc)
    yield made
    made.unregister_system_shared_memory()
    made.close()


@pytest.fixture
def segments() -> Iterator[list[Any]]:
    """Two segments, as a client makes them."""
    made = [
        shared_memory.create_shared_memory_region(side, key, ROWS.nbytes) for side, key in zip("io", KEYS, strict=True)
    ]
    yield made
    for item in made:
        shared_memory.destroy_shared_memory_region(item)


def test_tensors_go_through_shared_memory_both_ways(
    shared: Server, module: Any, client: Any, segments: list[Any]
) -> None:
    for side, key in zip("io", KEYS, strict=True):
        client.register_system_shared_memory(side, key, ROWS.nbytes)
    wanted = module.InferRequestedOutput("y")
    wanted.set_shared_memory("o", ROWS.nbytes)
    given = module.InferInput("x", list(ROWS.shape), "FP32")
    given.set_shared_memory("i", ROWS.nbytes)
    for turn in range(10):  # some by either worker
        shared_memory.set_shared_memory_region(segments[0], [ROWS + turn])
        fresh = module.InferenceServerClient(shared.http if module is triton_http else shared.grpc)
        answer = fresh.infer("m", [given], outputs=[wanted])
        fresh.close()
        out = answer.get_output("y")
        parameters = out["parameters"] if isinstance(out, dict) else out.parameters
        assert "shared_memory_region" in parameters
        found = shared_memory.get_contents_as_numpy(segments[1], np.float32, list(ROWS.shape))
        assert (found == (ROWS + turn) * 2 + 1).all()


def test_parts_of_a_region_and_answers_that_travel(module: Any, client: Any, segments: list[Any]) -> None:
    client.register_system_shared_memory("i", KEYS[0], 240, offset=120)
    shared_memory.set_shared_memory_region(segments[0], [ROWS[:30]])
    given = module.InferInput("x", [2, 3], "FP32")
    given.set_shared_memory("i", 24, offset=24)
    answer = client.infer("m", [given])
    assert (answer.as_numpy("y") == ROWS[12:14] * 2 + 1).all()


def test_texts_go_through_shared_memory(module: Any, client: Any, segments: list[Any]) -> None:
    texts = np.array([["a", "ä"], ["", "b" * 50]], object)
    raw = b"".join(len(item.encode()).to_bytes(4, "little") + item.encode() for item in texts.ravel())
    shared_memory.set_shared_memory_region(segments[0], [np.frombuffer(raw, np.uint8)])
    client.register_system_shared_memory("i", KEYS[0], len(raw))
    given = module.InferInput("x", [2, 2], "BYTES")
    given.set_shared_memory("i", len(raw))
    answer = client.infer("words", [given])
    assert [[item.decode() for item in row] for row in answer.as_numpy("y")] == texts.tolist()


def test_what_is_registered_is_reported_and_forgotten(module: Any, client: Any, segments: list[Any]) -> None:
    client.register_system_shared_memory("i", KEYS[0], 100, offset=4)
    status = client.get_system_shared_memory_status()
    found = status[0] if isinstance(status, list) else status.regions["i"]
    values = found if isinstance(found, dict) else {"name": found.name, "key": found.key, "offset": found.offset}
    assert (values["name"], values["key"], values["offset"]) == ("i", KEYS[0], 4)
    assert "system_shared_memory" in str(client.get_server_metadata())
    with pytest.raises(InferenceServerException, match="already") as raised:
        client.register_system_shared_memory("i", KEYS[0], 100)
    assert raised.value.status() in ("400", "StatusCode.ALREADY_EXISTS")
    client.unregister_system_shared_memory("i")
    with pytest.raises(InferenceServerException, match="unknown shared memory region 'i'"):
        client.get_system_shared_memory_status("i")


@pytest.mark.parametrize(
    ("key", "size", "offset", "why"),
    [
        ("/etc/passwd", 10, 0, "not allowed"),
        ("../etc/passwd", 10, 0, "not allowed"),
        ("/penstock-other", 10, 0, "not allowed"),
        (KEYS[0], ROWS.nbytes, 1, "would end after"),
        (KEYS[0], 0, 0, "at least one byte"),
    ],
    ids=["a path", "a path upwards", "another segment", "beyond the end", "nothing"],
)
def test_what_cannot_be_registered(
    client: Any, segments: list[Any], key: str, size: int, offset: int, why: str
) -> None:
    with pytest.raises(InferenceServerException, match=why):
        client.register_system_shared_memory("r", key, size, offset=offset)


def test_a_segment_that_is_not_there(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no shared memory with this key"):
        client.register_system_shared_memory("r", KEYS[0], 10)


def test_what_does_not_fit(module: Any, client: Any, segments: list[Any]) -> None:
    client.register_system_shared_memory("i", KEYS[0], 24)
    client.register_system_shared_memory("o", KEYS[1], 20)
    for size, offset, why in ((28, 0, "not inside"), (24, 4, "not inside"), (20, 0, "needs 24 bytes")):
        given = module.InferInput("x", [2, 3], "FP32")
        given.set_shared_memory("i", size, offset=offset)
        with pytest.raises(InferenceServerException, match=why):
            client.infer("m", [given])
    given = module.InferInput("x", [2, 3], "FP32")
    given.set_shared_memory("nobody", 24)
    with pytest.raises(InferenceServerException, match="unknown shared memory region"):
        client.infer("m", [given])
    given.set_shared_memory("i", 24)
    wanted = module.InferRequestedOutput("y")
    wanted.set_shared_memory("o", 20)
    with pytest.raises(InferenceServerException, match="has 24 bytes"):
        client.infer("m", [given], outputs=[wanted])


def test_a_segment_that_is_truncated_is_its_callers_fault(
    shared: Server, module: Any, client: Any, segments: list[Any]
) -> None:
    for side, key in zip("io", KEYS, strict=True):
        client.register_system_shared_memory(side, key, ROWS.nbytes)
    given = module.InferInput("x", list(ROWS.shape), "FP32")
    given.set_shared_memory("i", ROWS.nbytes)
    wanted = module.InferRequestedOutput("y")
    wanted.set_shared_memory("o", ROWS.nbytes)
    for place, outputs in ((0, None), (1, [wanted])):
        segment = SEGMENTS / KEYS[place].lstrip("/")
        os.truncate(segment, 100)
        for _ in range(4):  # some by either worker
            with pytest.raises(InferenceServerException, match="smaller than when it was registered") as raised:
                client.infer("m", [given], outputs=outputs)
            assert raised.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
        os.truncate(segment, ROWS.nbytes)
    assert client.infer("m", [given], outputs=[wanted])
    assert all(harness.is_alive(pid) for pid in shared.workers)


def test_accelerators_have_no_regions(client: Any) -> None:
    """Clients let go of all there may be before they begin."""
    client.unregister_cuda_shared_memory()
    client.unregister_cuda_shared_memory("r")
    status = client.get_cuda_shared_memory_status()
    assert not (status if isinstance(status, list) else status.regions)
    with pytest.raises(InferenceServerException, match="accelerators"):
        client.register_cuda_shared_memory("r", b"cmF3", 0, 4)
