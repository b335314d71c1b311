"""Regions of shared memory belong to the caller who registered them: every method, both transports, two callers."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.shared_memory import SEGMENTS
from tests.harness import PATIENCE_S
from tests.integration.access import ports as data_ports
from tests.integration.access.ports import DataPorts, ask
from tests.integration.access.test_credentials import bearer

ROW = np.array([[1, 2, 3]], "<f4").tobytes()
RESULT = np.array([[3, 5, 7]], "<f4").tobytes()
NAMES = ("", "r")
"""All regions, and the one that is registered."""


class Client(Protocol):
    """The methods of shared memory as one caller; each returns "ok" or the error, ``status`` the names."""

    def register(self, name: str, key: str) -> str:
        """Register 24 bytes: a row, and space for another."""

    def unregister(self, name: str) -> str:
        """Unregister a region, or all."""

    def status(self, name: str) -> list[str] | str:
        """The regions that are shown."""

    def infer(self, given: str, into: str) -> str:
        """Ask with a row in a region ("": in the request), and an answer to a region ("": in the answer)."""


class RestClient:
    """See ``Client``."""

    def __init__(self, ports: DataPorts, key: str | None) -> None:
        self._ports = ports
        self._key = key

    def _post(self, path: str, body: bytes = b"", fields: Any = ()) -> str:
        connection = self._ports.connect()
        answer = ask(connection, "POST", path, self._key, body, fields)
        connection.close()
        return "ok" if answer.status == 200 else f"{answer.status} {json.loads(answer.body)['error']}"

    def register(self, name: str, key: str) -> str:
        """See ``Client``."""
        body = json.dumps({"key": key, "byte_size": 24}).encode()
        return self._post(f"/v2/systemsharedmemory/region/{name}/register", body)

    def unregister(self, name: str) -> str:
        """See ``Client``."""
        return self._post(f"/v2/systemsharedmemory{f'/region/{name}' if name else ''}/unregister")

    def status(self, name: str) -> list[str] | str:
        """See ``Client``."""
        connection = self._ports.connect()
        path = f"/v2/systemsharedmemory{f'/region/{name}' if name else ''}/status"
        answer = ask(connection, "GET", path, self._key)
        connection.close()
        found = json.loads(answer.body)
        if answer.status != 200:
            return f"{answer.status} {found['error']}"
        assert all(item.keys() == {"name", "key", "offset", "byte_size"} for item in found)
        return [item["name"] for item in found]

    def infer(self, given: str, into: str) -> str:
        """See ``Client``."""
        place = {"shared_memory_region": given, "shared_memory_byte_size": 12} if given else {"binary_data_size": 12}
        request: dict[str, Any] = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": place}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
        if into:
            request["outputs"][0]["parameters"] = {
                "shared_memory_region": into,
                "shared_memory_byte_size": 12,
                "shared_memory_offset": 12,
            }
        head = json.dumps(request).encode()
        fields = [("inference-header-content-length", str(len(head)))]
        return self._post("/v2/models/digits/infer", head + (b"" if given else ROW), fields)


class GrpcClient:
    """See ``Client``."""

    def __init__(self, ports: DataPorts, key: str | None) -> None:
        self._address = ports.grpc[0]
        self._metadata = () if key is None else bearer(key)

    def _call(self, method: str, message: Any) -> bytes | str:
        with grpc.insecure_channel(self._address) as channel:
            unary: Callable[..., bytes] = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            try:
                return unary(message.SerializeToString(), metadata=self._metadata, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                return f"{error.code().name} {error.details()}"

    def _outcome(self, method: str, message: Any) -> str:
        answer = self._call(method, message)
        return answer if isinstance(answer, str) else "ok"

    def register(self, name: str, key: str) -> str:
        """See ``Client``."""
        message = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, byte_size=24)
        return self._outcome("SystemSharedMemoryRegister", message)

    def unregister(self, name: str) -> str:
        """See ``Client``."""
        return self._outcome("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=name))

    def status(self, name: str) -> list[str] | str:
        """See ``Client``."""
        answer = self._call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name=name))
        if isinstance(answer, str):
            return answer
        return list(pb.SystemSharedMemoryStatusResponse.FromString(answer).regions)

    def message(self, given: str, into: str) -> pb.ModelInferRequest:
        """The request of ``infer``."""
        message = pb.ModelInferRequest(model_name="digits")
        item, output = message.inputs.add(name="x", datatype="FP32", shape=[1, 3]), message.outputs.add(name="y")
        if given:
            _place(item, given, 0)
        else:
            message.raw_input_contents.append(ROW)
        if into:
            _place(output, into, 12)
        return message

    def infer(self, given: str, into: str) -> str:
        """See ``Client``."""
        return self._outcome("ModelInfer", self.message(given, into))


class StreamClient(GrpcClient):
    """See ``Client``; asks for predictions by a stream."""

    def infer(self, given: str, into: str) -> str:
        """See ``Client``."""
        with grpc.insecure_channel(self._address) as channel:
            stream: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            messages = iter([self.message(given, into).SerializeToString()])
            first = next(stream(messages, metadata=self._metadata, timeout=PATIENCE_S))
        return pb.ModelStreamInferResponse.FromString(first).error_message or "ok"


def _place(item: Any, region: str, offset: int) -> None:
    item.parameters["shared_memory_region"].string_param = region
    item.parameters["shared_memory_byte_size"].int64_param = 12
    item.parameters["shared_memory_offset"].int64_param = offset


TRANSPORTS = {"rest": RestClient, "grpc": GrpcClient, "stream": StreamClient}


@pytest.fixture
def segments() -> Iterator[list[Path]]:
    """Two segments with a row and space for another."""
    made = [SEGMENTS / f"penstock-test-{os.getpid()}-{uuid.uuid4().hex}" for _ in range(2)]
    for path in made:
        path.write_bytes(ROW + bytes(12))
    yield made
    for path in made:
        path.unlink()


@pytest.fixture(params=TRANSPORTS)
def own(request: pytest.FixtureRequest) -> Any:
    """How the owner speaks."""
    return TRANSPORTS[request.param]


@pytest.fixture(params=TRANSPORTS)
def foreign(request: pytest.FixtureRequest) -> Any:
    """How the other caller speaks."""
    return TRANSPORTS[request.param]


def test_a_region_serves_its_owner_and_nobody_else(
    ports: DataPorts, own: Any, foreign: Any, segments: list[Path]
) -> None:
    """Each method that names a region, as the other caller; the owner asks before and after, so that whatever is
    remembered of its requests could answer the other's."""
    first: Client = own(ports, ports.add_key("a", "admin"))
    other: Client = foreign(ports, ports.add_key("b", "admin"))
    assert first.register("r", segments[0].name) == "ok"
    for given, into in (("r", "r"), ("r", ""), ("", "r")):
        assert first.infer(given, into) == first.infer(given, into) == "ok"
        assert "unknown shared memory region 'r'" in other.infer(given, into)
    assert segments[0].read_bytes() == ROW + RESULT
    segments[0].write_bytes(ROW + bytes(12))
    assert other.status("") == []
    assert "unknown shared memory region 'r'" in other.status("r")
    assert "another caller" in other.register("s", f"/{segments[0].name}")
    for name in NAMES:
        assert other.unregister(name) == "ok"  # as if there were none
    assert first.status("") == first.status("r") == ["r"]
    assert segments[0].read_bytes() == ROW + bytes(12)
    assert other.register("r", segments[1].name) == "ok"
    assert other.infer("r", "r") == "ok"
    assert [path.read_bytes() for path in segments] == [ROW + bytes(12), ROW + RESULT]
    assert first.unregister("") == "ok"
    assert (first.status(""), other.status("")) == ([], ["r"])


def test_an_answer_from_a_cache_needs_no_region_of_others(ports: DataPorts, own: Any, segments: list[Path]) -> None:
    """A request without shared memory is answered from its remembered layout for both; the regions stay apart."""
    first, other = (own(ports, ports.add_key(name, "admin")) for name in "ab")
    assert first.register("r", segments[0].name) == "ok"
    assert [client.infer("", "") for client in (first, other, first, other)] == ["ok"] * 4
    assert "unknown shared memory region" in other.infer("r", "")


def test_a_rotated_key_owns_what_the_old_one_registered(ports: DataPorts, own: Any, segments: list[Path]) -> None:
    assert own(ports, ports.add_key("a", "admin")).register("r", segments[0].name) == "ok"
    assert own(ports, ports.add_key("a", "admin")).infer("r", "r") == "ok"


def test_without_operate_no_region_is_registered_or_used(ports: DataPorts, own: Any, segments: list[Path]) -> None:
    assert own(ports, ports.add_key("a", "admin")).register("r", segments[0].name) == "ok"
    caller = own(ports, ports.add_key("bot", "caller"))
    assert "permission 'operate'" in caller.register("s", segments[1].name)
    assert "permission 'operate'" in caller.unregister("r")
    assert "unknown shared memory region" in caller.infer("r", "")


@pytest.mark.parametrize("dry_run", [False, True])
def test_all_callers_are_one_while_nobody_is_refused(
    models: Path, own: Any, segments: list[Path], dry_run: bool
) -> None:
    with data_ports.running(models) as ports:
        key = ports.add_key("a", "admin") if dry_run else None
        ports.publish(replace(ports.table, enabled=dry_run, dry_run=dry_run))
        assert own(ports, key).register("r", segments[0].name) == "ok"
        anonymous = own(ports, None)
        assert anonymous.infer("r", "r") == "ok"
        assert anonymous.status("r") == ["r"]
        assert anonymous.unregister("") == "ok"
        assert own(ports, key).status("") == []


@pytest.mark.parametrize("method", ["infer", "status", "unregister"])
def test_a_client_of_the_protocol_sees_the_same_on_either_transport(
    ports: DataPorts, method: str, segments: list[Path]
) -> None:
    key = ports.add_key("a", "admin")
    for one, other in ((RestClient, GrpcClient), (GrpcClient, RestClient)):
        name = one.__name__
        assert one(ports, key).register(name, segments[0].name) == "ok"
        client = other(ports, key)
        assert getattr(client, method)(*((name, name) if method == "infer" else (name,))) in ("ok", [name])
        one(ports, key).unregister("")
