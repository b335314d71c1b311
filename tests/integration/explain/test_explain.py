"""Explanations of a gateway: over REST and gRPC, exact for trees, sampled within a budget, and no predictions."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests import zoo
from tests.harness import PATIENCE_S, Server, running, wait_until

FEATURES = 6
BACKGROUND, ENOUGH = 40, 30
ROWS = np.random.default_rng(7).normal(size=(300, FEATURES)).astype(np.float32)


@cache
def trees(depth: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    labels = (ROWS[:, 0] * ROWS[:, 1] + ROWS[:, 2] > 0).astype(int)
    return GradientBoostingClassifier(n_estimators=20, max_depth=depth, random_state=1).fit(ROWS, labels)


def save_trees(model: Any, path: Path) -> None:
    from skl2onnx import to_onnx

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_onnx(model, ROWS[:1], options={"zipmap": False}).SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    save_trees(trees(2), models / "trees" / "1" / "model.onnx")
    save_trees(trees(3), models / "trees" / "2" / "model.onnx")
    zoo.save(zoo.affine(2.0, 1.0, ("n", "m")), models / "affine" / "1" / "model.onnx")
    environment = {"PENSTOCK_DIALECTS": '["kserve_v1"]'}
    with running(models, tmp_path_factory.mktemp("server"), "--workers", "1", env=environment) as server:
        for version in ("1", "2"):
            for row in ROWS[:BACKGROUND]:
                reply = server.rest("POST", f"/v2/models/trees/versions/{version}/infer", request(row[None]))
                assert reply.status == 200, reply
            wait_for_live_rows(server, version)
        yield server


def request(rows: Any, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "X", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return {"id": "abc", "parameters": {"budget_ms": 30_000, **parameters}, "inputs": [tensor]}


def explain(server: Server, rows: Any, path: str = "trees", **parameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    reply = server.rest("POST", f"/v2/models/{path}/explain", request(rows, **parameters))
    assert reply.status == 200, reply
    document = reply.json()
    arrays = {item["name"]: np.array(item["data"]).reshape(item["shape"]) for item in document["outputs"]}
    return arrays, {**document["parameters"], "headers": reply.headers, "id": document["id"]}


def wait_for_live_rows(server: Server, version: str) -> None:
    """Rows come to the background in batches, milliseconds after their answers."""

    def are_there() -> bool:
        reply = server.rest("POST", f"/v2/models/trees/versions/{version}/explain", request(ROWS[:1]))
        return reply.status == 200 and reply.json()["parameters"]["background_rows"] >= ENOUGH

    wait_until(are_there, PATIENCE_S, "live rows")


def counted(server: Server, name: str, label: str = "") -> float:
    lines = server.admin("GET", "/metrics").body.decode().splitlines()
    own = [line for line in lines if line.startswith(name) and 'model="trees"' in line and label in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in own)


def test_explanations_of_trees_are_exact_and_no_predictions(server: Server) -> None:
    before = counted(server, "penstock_requests_total"), counted(server, "penstock_monitor_rows_total")
    arrays, facts = explain(server, ROWS[:3], path="trees/versions/1", outputs="probabilities:1")
    assert facts["exact"] is True and facts["method"] == "tree" and facts["scale"] == "margin"
    assert facts["id"] == "abc" and facts["headers"]["penstock-model-version"] == "1"
    assert arrays["attributions"].shape == (3, FEATURES)
    sums = arrays["base_value"] + arrays["attributions"].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sums, arrays["prediction"], atol=1e-5)
    np.testing.assert_allclose(arrays["prediction"][:, 0], trees(2).decision_function(ROWS[:3]), atol=1e-4)
    assert list(arrays["features"]) == [f"X[{index}]" for index in range(FEATURES)]
    assert not arrays["error"].any()
    assert (counted(server, "penstock_requests_total"), counted(server, "penstock_monitor_rows_total")) == before
    assert counted(server, "penstock_explanations_total", 'outcome="exact"') > 0


def test_sampled_explanations_state_their_error_and_agree_with_the_exact_ones(server: Server) -> None:
    arrays, facts = explain(server, ROWS[:1], method="permutation", budget_ms=1000, background="live", seed=3)
    assert facts["exact"] is False and facts["method"] == "permutation" and facts["scale"] == "probability"
    sums = arrays["base_value"] + arrays["attributions"].sum(axis=1)
    np.testing.assert_allclose(sums, arrays["prediction"], atol=1e-6)
    assert arrays["error"].shape == (1, FEATURES, 2) and arrays["error"].any()


def test_why_two_versions_differ(server: Server) -> None:
    arrays, facts = explain(server, ROWS[:1], path="trees/versions/2", against="1", outputs="probabilities:1")
    assert facts["exact"] is True and facts["against"] == "1"
    difference = trees(3).decision_function(ROWS[:1]) - trees(2).decision_function(ROWS[:1])
    np.testing.assert_allclose(arrays["prediction"][0], difference, atol=1e-4)


def test_grpc_answers_the_same(server: Server) -> None:
    wanted, _ = explain(server, ROWS[:1], path="trees/versions/1")
    asked = pb.ModelInferRequest(model_name="trees", model_version="1", id="g")
    item = asked.inputs.add(name="X", datatype="FP32", shape=[1, FEATURES])
    asked.raw_input_contents.append(ROWS[0].tobytes())
    assert item.name == "X"
    asked.parameters["explain"].bool_param = True
    asked.parameters["budget_ms"].int64_param = 30_000
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(asked, timeout=PATIENCE_S)
        asked.parameters["explain"].bool_param = False
        plain = stub.ModelInfer(asked, timeout=PATIENCE_S)
        asked.parameters["explain"].string_param = "yes"
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(asked, timeout=PATIENCE_S)
    names = [output.name for output in answer.outputs]
    assert answer.parameters["exact"].bool_param is True and answer.parameters["method"].string_param == "tree"
    place = names.index("attributions")
    found = np.frombuffer(answer.raw_output_contents[place]).reshape(answer.outputs[place].shape)
    np.testing.assert_allclose(found, wanted["attributions"], atol=1e-9)
    assert [output.name for output in plain.outputs] == ["label", "probabilities"]
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_kserve_v1_answers_predictions_and_explanations_by_feature(server: Server) -> None:
    body = {"instances": ROWS[:2].tolist(), "parameters": {"outputs": "probabilities:1", "budget_ms": 30_000}}
    reply = server.rest("POST", "/v1/models/trees:explain", body)
    assert reply.status == 200, reply
    answer = reply.json()
    assert [row["label"] for row in answer["predictions"]] == trees(3).predict(ROWS[:2]).tolist()
    first = answer["explanations"][0]
    assert set(first["attributions"]) == {f"X[{index}]" for index in range(FEATURES)}
    assert first["base_value"] + sum(first["attributions"].values()) == pytest.approx(first["prediction"], abs=1e-5)
    assert answer["parameters"]["exact"] is True
    for wrong in ({"instances": ROWS[:1].tolist(), "parameters": 7}, {"rows": 1}):
        assert server.rest("POST", "/v1/models/trees:explain", wrong).status == 400


@pytest.mark.parametrize(
    ("path", "rows", "parameters", "status"),
    [
        ("trees", ROWS[:1], {"method": "magic"}, 400),
        ("trees", ROWS[:1], {"outputs": "label"}, 400),
        ("trees", ROWS[:1], {"outputs": "probabilities:9"}, 400),
        ("trees", ROWS[:1], {"against": "9"}, 404),
        ("trees", ROWS[:1, :2], {}, 400),
        ("trees", ROWS[:65], {}, 413),
        ("nothing", ROWS[:1], {}, 404),
        ("affine", ROWS[:1], {}, 400),
    ],
)
def test_what_cannot_be_explained_is_refused(
    server: Server, path: str, rows: Any, parameters: dict[str, Any], status: int
) -> None:
    reply = server.rest("POST", f"/v2/models/{path}/explain", request(rows, **parameters))
    assert reply.status == status, reply
    assert reply.error()


def test_the_command_line_shows_what_moved_the_answer(server: Server, penstock: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join([",".join("abcdef"), *(",".join(map(str, row)) for row in ROWS[:2])]))
    shown = penstock(
        "explain", "trees", "--rows", str(rows), "--url", server.http, "--top", "2", "--budget-ms", "30000"
    )
    assert shown.code == 0, shown
    assert "tree, exact, margin of 'probabilities'" in shown.err
    lines = shown.out.splitlines()
    assert lines[0].startswith("row 0, column ") and lines[1].split()[:3] == ["Feature", "Value", "Adds"]
    assert lines[4].split()[:2] == ["4", "more"] and any(line.startswith("row 1") for line in lines)
    printed = penstock("explain", "trees", "--rows", str(rows), "--url", server.http, "--json")
    assert json.loads(printed.out)["parameters"]["exact"] is True
    wrong = penstock("explain", "trees", "--rows", str(tmp_path / "none.csv"), "--url", server.http)
    assert wrong.code == 2 and "none.csv" in wrong.err


def test_a_captured_request_is_explained_by_its_id(server: Server, penstock: Any) -> None:
    reply = server.as_owner("PUT", "/admin/v1/models/trees/policy", {"capture": {"sample": 1.0}})
    assert reply.status == 200, reply

    def is_captured() -> bool:
        server.rest("POST", "/v2/models/trees/infer", {**request(ROWS[:1]), "id": "kept"})
        found = server.admin("POST", "/admin/v1/models/trees/captured/explain", {"id": "kept"})
        assert found.status in (200, 404), found
        return found.status == 200

    wait_until(is_captured, PATIENCE_S, "the capture of a request")
    shown = penstock("explain", "trees", "--id", "kept", "--url", server.ops, "--json")
    answer = json.loads(shown.out)
    assert answer["id"] == "kept" and answer["parameters"]["exact"] is True
    assert penstock("explain", "trees", "--id", "lost", "--url", server.ops).code == 3


def test_more_explanations_than_a_worker_makes_at_a_time_are_refused(server: Server) -> None:
    body = request(ROWS[:1], method="permutation", budget_ms=1500)
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: server.rest("POST", "/v2/models/trees/explain", body), range(6)))
    statuses = {reply.status for reply in replies}
    assert 429 in statuses and statuses <= {200, 429, 504}
    assert all("retry-after" in reply.headers for reply in replies if reply.status == 429)


def test_importance_comes_from_live_rows(server: Server, penstock: Any) -> None:
    """Last, because the policy has a reference learned, which is a background from then on."""
    learn = {"live_reference_rows": 100, "live_reference_requests": 1, "live_reference_seconds": 0}
    monitor = {**learn, "live_reference_client_share": 1.0, "explained_rows_per_second": 50}
    assert penstock("explain", "trees", "--importance", "--url", server.ops).code == 1
    reply = server.as_owner("PUT", "/admin/v1/models/trees/policy", {"monitor": monitor})
    assert reply.status == 200, reply
    rows = iter(np.concatenate([ROWS] * 100))

    def is_known() -> bool:
        for _ in range(20):
            server.rest("POST", "/v2/models/trees/versions/2/infer", request(next(rows)[None]))
        found = server.admin("GET", "/admin/v1/models/trees/importance?version=2").json()
        assert "exact" not in found.get("problem", ""), found
        return bool(found["features"])

    wait_until(is_known, PATIENCE_S, "the importance of features")
    printed = penstock("explain", "trees", "--importance", "--version", "2", "--url", server.ops, "--json")
    found = json.loads(printed.out)
    assert (found["method"], found["scale"], len(found["features"])) == ("tree", "margin", FEATURES)
    assert sum(item["share"] for item in found["features"]) == pytest.approx(1.0, abs=1e-4)
    shown = penstock("explain", "trees", "--importance", "--version", "2", "--url", server.ops, "--top", "2")
    assert "mean size of attributions of 'probabilities'" in shown.err and len(shown.out.splitlines()) == 3
