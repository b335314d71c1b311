"""Repository control and statistics: models come, go and change while the server runs, and its counts are true."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as messages
from tests import harness, zoo
from tests.conformance.wire import Ask, Grpc, GrpcRaw, Input, Refused, RestJson, Transport
from tests.harness import PATIENCE_S, Server, wait_until

ROWS = Input.of("x", "FP32", [[1, 2, 3]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder these tests may change."""
    root = tmp_path_factory.mktemp("changing")
    zoo.place(root, "pair", {"1": zoo.versioned(1), "2": zoo.versioned(2)})
    zoo.save(zoo.affine(0.5, 0.25, ("n",)), root / "vector.onnx")
    return root


@pytest.fixture(scope="module", params=["1", "2"])
def own(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of these tests' own, with one worker and with two."""
    with harness.running(folder, tmp_path_factory.mktemp("own"), "--workers", request.param) as started:
        yield started


@pytest.fixture
def channel(own: Server) -> Iterator[Grpc]:
    """gRPC to that server."""
    opened = GrpcRaw(own)
    yield opened
    opened.close()


def change(server: Server, model: str, action: str, body: Any = b"") -> harness.Reply:
    """Load or unload a model."""
    return server.rest("POST", f"/v2/repository/models/{model}/{action}", body)


def version_of(server: Server, model: str = "pair") -> str:
    """Who answers."""
    return RestJson(server).infer(Ask(model, [ROWS])).version


def test_a_model_goes_and_comes_back(own: Server) -> None:
    assert change(own, "pair", "unload").status == 200
    for _ in range(6):  # every worker
        with pytest.raises(Refused) as refusal:
            version_of(own)
        assert refusal.value.code == 503
        assert own.rest("GET", "/v2/models/pair/ready").status == 503
    states = {line.get("state") for line in index(own) if line["name"] == "pair"}
    assert "READY" not in states
    assert change(own, "pair", "load").status == 200
    assert [version_of(own) for _ in range(6)] == ["2"] * 6
    assert own.rest("GET", "/v2/health/ready").status == 200


def index(server: Server) -> list[dict[str, str]]:
    """The repository index."""
    lines: list[dict[str, str]] = server.rest("POST", "/v2/repository/index", b"{}").json()
    return lines


def test_load_takes_up_new_versions_and_drops_old_ones(own: Server, folder: Path) -> None:
    zoo.save(zoo.versioned(3), folder / "pair" / "3" / "model.onnx")
    try:
        assert version_of(own) == "2"
        assert change(own, "pair", "load", {"parameters": {}}).status == 200
        assert [version_of(own) for _ in range(6)] == ["3"] * 6
    finally:
        shutil.rmtree(folder / "pair" / "3")
    assert change(own, "pair", "load").status == 200
    assert [version_of(own) for _ in range(6)] == ["2"] * 6
    assert own.rest("POST", "/v2/models/pair/versions/3/infer", {"inputs": []}).status == 404


def test_load_takes_up_a_new_model(own: Server, folder: Path) -> None:
    assert change(own, "late", "load").status == 404
    zoo.save(zoo.affine(2, 0, ("n", 3)), folder / "late.onnx")
    try:
        assert change(own, "late", "load").status == 200
        assert [version_of(own, "late") for _ in range(6)] == ["1"] * 6
    finally:
        (folder / "late.onnx").unlink()
        assert change(own, "late", "unload").status == 200


def test_load_takes_up_a_changed_file(own: Server, folder: Path) -> None:
    ask, original = Ask("vector", [Input.of("x", "FP32", [2])]), (folder / "vector.onnx").read_bytes()
    zoo.save(zoo.affine(10, 0, ("n",)), folder / "vector.onnx")
    try:
        assert RestJson(own).infer(ask).array("y").tolist() == [1.25]
        assert change(own, "vector", "load").status == 200
        assert [RestJson(own).infer(ask).array("y").tolist() for _ in range(6)] == [[20]] * 6
    finally:
        (folder / "vector.onnx").write_bytes(original)
        assert change(own, "vector", "load").status == 200


def test_a_failed_load_leaves_what_was_served(own: Server, folder: Path) -> None:
    original = (folder / "vector.onnx").read_bytes()
    (folder / "vector.onnx").write_bytes(b"no graph at all")
    try:
        reply = change(own, "vector", "load")
        assert reply.status == 400
        assert "vector" in reply.error()
        assert str(folder) not in reply.error()
        ask = Ask("vector", [Input.of("x", "FP32", [2])])
        assert [RestJson(own).infer(ask).array("y").tolist() for _ in range(6)] == [[1.25]] * 6
    finally:
        (folder / "vector.onnx").write_bytes(original)
        assert change(own, "vector", "load").status == 200


def test_load_takes_a_configuration(own: Server) -> None:
    body = {"parameters": {"config": zoo.load_config(max_batch_size=1)}}
    assert change(own, "pair", "load", body).status == 200
    try:
        two_rows = Ask("pair", [Input.of("x", "FP32", [[1, 2, 3]] * 2)])
        with pytest.raises(Refused) as refusal:
            RestJson(own).infer(two_rows)
        assert refusal.value.code == 400
        assert own.rest("GET", "/v2/models/pair/config").json()["max_batch_size"] == 1
    finally:
        assert change(own, "pair", "load").status == 200
    assert RestJson(own).infer(two_rows).outputs[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"parameters": {"config": "{"}}, 400),
        ({"parameters": {"config": '{"nothing_such": 1}'}}, 400),
        ({"parameters": {"config": '{"backend": "tensorrt"}'}}, 400),
        ({"parameters": {"config": '{"instance_group": [{"kind": "KIND_GPU"}]}'}}, 400),
        ({"parameters": {"config": 7}}, 400),
        ({"parameters": 7}, 400),
        (b"{", 400),
        (b"[]", 400),
        ({"parameters": {"config": "{}", "file:1/model.onnx": "AAAA"}}, 501),
    ],
)
def test_a_wrong_load_changes_nothing(own: Server, body: Any, code: int) -> None:
    reply = change(own, "pair", "load", body)
    assert reply.status == code
    assert reply.error()
    assert version_of(own) == "2"


def test_unknown_models_cannot_be_loaded_and_are_unloaded_already(own: Server) -> None:
    for name, codes in (("nobody", {404}), ("nobody%00", {400, 404})):
        refused = change(own, name, "load")
        assert refused.status in codes
        assert refused.error().startswith("failed to load 'nobody")
        assert change(own, name, "unload").status == 200
    for action in ("load", "unload"):
        assert change(own, "..%2Fpair", action).status == 404
    assert version_of(own) == "2"


def test_the_listed_repository_is_the_same_one(own: Server) -> None:
    wait_until(  # one worker may hear of an unload a moment after the other
        lambda: own.rest("POST", "/v2/repository/mine/index", b"").json() == index(own), PATIENCE_S, "the same index"
    )
    assert own.rest("POST", "/v2/repository/mine/models/pair/unload", b"").status == 200
    assert own.rest("POST", "/v2/repository/mine/models/pair/load", b"").status == 200
    assert version_of(own) == "2"


def test_both_dialects_of_grpc_load_and_unload(own: Server, channel: Grpc) -> None:
    stub = channel.stub
    for v2_name, kserve_name in (
        ("pair", ""),
        ("", "pair"),
    ):  # KServe's schema puts the model's name into the first field
        names: dict[str, Any] = {"model_name": v2_name, "repository_name": kserve_name}
        stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(**names), timeout=PATIENCE_S)
        with pytest.raises(Refused) as refusal:
            version_of(own)
        assert refusal.value.code == 503
        answer = stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(**names), timeout=PATIENCE_S)
        assert version_of(own) == "2"
        if kserve_name:
            assert_says_loaded(answer.SerializeToString())


def assert_says_loaded(data: bytes) -> None:
    """KServe's answer: field 1 the model's name, field 2 true."""
    assert data == b"\x0a\x04pair\x10\x01"


def test_the_grpc_index_is_the_rest_index(own: Server, channel: Grpc) -> None:
    def asked() -> list[dict[str, str]]:
        answer = channel.stub.RepositoryIndex(messages.RepositoryIndexRequest(), timeout=PATIENCE_S)
        seen = [
            {"name": model.name, "version": model.version, "state": model.state, "reason": model.reason}
            for model in answer.models
        ]
        return [{key: text for key, text in line.items() if text} for line in seen]

    assert {line["name"] for line in asked()} >= {"pair", "vector"}
    wait_until(  # one worker may hear of a folder's change a moment after the other
        lambda: asked() == index(own), PATIENCE_S, "the same index"
    )


# Statistics.


def stats(server: Server, path: str) -> dict[str, Any]:
    """The only entry of a statistics answer."""
    [entry] = server.rest("GET", path).json()["model_stats"]
    found: dict[str, Any] = entry
    return found


def test_counts_are_true(own: Server) -> None:
    before, path = stats(own, "/v2/models/pair/versions/1/stats"), "/v2/models/pair/versions/1/infer"
    rest, grpc = RestJson(own), GrpcRaw(own)
    transports: list[Transport] = [rest, grpc]
    for number in range(20):
        rows = Input.of("x", "FP32", [[1, 2, 3]] * (1 + number % 2))
        transports[number % 2].infer(Ask("pair", [rows], version="1"))
    for _ in range(5):
        assert own.rest("POST", path, {"inputs": []}).status == 400
    grpc.close()
    after = stats(own, "/v2/models/pair/versions/1/stats")
    gained = {key: after[key] - before[key] for key in ("inference_count", "execution_count")}
    assert gained == {"inference_count": 30, "execution_count": 20}
    assert counts(after)["success"] - counts(before)["success"] == 20
    assert counts(after)["fail"] - counts(before)["fail"] == 5
    for name in ("compute_input", "compute_infer", "compute_output", "queue"):
        assert counts(after)[name] - counts(before)[name] == 20, name
    assert_nanoseconds(before, after)
    assert after["last_inference"] > 1_600_000_000_000
    sizes = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in after["batch_stats"]}
    assert sizes[1] >= 10
    assert sizes[2] >= 10


def counts(entry: dict[str, Any]) -> dict[str, int]:
    """The counts of one entry's durations."""
    return {name: duration["count"] for name, duration in entry["inference_stats"].items()}


def assert_nanoseconds(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Stages take time, and no longer than the whole."""
    spent = {
        name: after["inference_stats"][name]["ns"] - before["inference_stats"][name]["ns"]
        for name in ("success", "queue", "compute_input", "compute_infer", "compute_output")
    }
    assert spent["compute_infer"] > 0
    assert spent["compute_input"] > 0
    assert spent["compute_output"] > 0
    assert sum(spent.values()) - spent["success"] <= spent["success"]


def test_counts_are_the_same_over_both_transports_and_all_paths(own: Server, channel: Grpc) -> None:
    everything = own.rest("GET", "/v2/models/stats").json()["model_stats"]
    assert [(entry["name"], entry["version"]) for entry in everything if entry["name"] == "pair"] == [
        ("pair", "1"),
        ("pair", "2"),
    ]
    of_pair = own.rest("GET", "/v2/models/pair/stats").json()["model_stats"]
    assert of_pair == [entry for entry in everything if entry["name"] == "pair"]
    answer = channel.stub.ModelStatistics(messages.ModelStatisticsRequest(name="pair"), timeout=PATIENCE_S)
    seen = [(stat.version, stat.inference_count, stat.inference_stats.success.ns) for stat in answer.model_stats]
    assert seen == [
        (item["version"], item["inference_count"], item["inference_stats"]["success"]["ns"]) for item in of_pair
    ]


def test_statistics_of_nobody_are_not_found(own: Server, channel: Grpc) -> None:
    assert own.rest("GET", "/v2/models/nobody/stats").status == 404
    assert own.rest("GET", "/v2/models/pair/versions/9/stats").status == 404
    with pytest.raises(Exception, match="NOT_FOUND"):
        channel.stub.ModelStatistics(messages.ModelStatisticsRequest(name="nobody"), timeout=PATIENCE_S)


def test_counts_survive_a_reload(own: Server) -> None:
    before = stats(own, "/v2/models/pair/versions/2/stats")["inference_count"]
    RestJson(own).infer(Ask("pair", [ROWS], version="2"))
    assert change(own, "pair", "unload").status == 200
    assert change(own, "pair", "load").status == 200
    assert stats(own, "/v2/models/pair/versions/2/stats")["inference_count"] == before + 1


def test_no_request_is_lost_while_a_model_is_reloaded(own: Server, folder: Path) -> None:
    original = (folder / "vector.onnx").read_bytes()
    transport, ask = RestJson(own), Ask("vector", [Input.of("x", "FP32", [2])])
    try:
        for round_number in range(1, 4):
            zoo.save(zoo.affine(round_number, 0, ("n",)), folder / "vector.onnx")
            assert change(own, "vector", "load").status == 200
            for _ in range(20):
                assert np.array_equal(transport.infer(ask).array("y"), [2 * round_number])
    finally:
        (folder / "vector.onnx").write_bytes(original)
        assert change(own, "vector", "load").status == 200
    assert json.loads(own.rest("GET", "/v2/models/vector").body)["name"] == "vector"
