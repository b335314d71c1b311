"""Predictions by the ops port of a whole gateway: as the caller who asks, by the same route and the same quota."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.core.access.callers import OWNER
from penstock.core.access.delegation import write_delegation
from tests import harness, zoo
from tests.certificates import make_certificate
from tests.harness import Reply, wait_until
from tests.integration.access.test_ops_access import Gateway

BODY: Mapping[str, Any] = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
PATH = "/admin/v1/models/digits/predict"
STAGES = ["decode", "queue", "run", "encode"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("predictions")
    with harness.running(None, folder, "--workers", "1", env={"PENSTOCK_AUTH__KEYS": "true"}) as server:
        for version in (1, 2):
            content = zoo.affine(1.0, float(version), ("n", 3)).SerializeToString()
            path = f"/admin/v1/models/digits/versions/{version}"
            pushed = harness.call(server.home / "ops.sock", "PUT", path, content)
            assert pushed.status == 201, pushed.body
        yield Gateway(server, folder)


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> str:
    """The key of an application."""
    return gateway.create("app", "caller")


def ask(gateway: Gateway, key: str, path: str = PATH, headers: Mapping[str, str] | None = None) -> Reply:
    return gateway.server.admin("POST", path, BODY, {"authorization": f"Bearer {key}", **(headers or {})})


def test_a_caller_gets_the_answer_of_the_data_plane(gateway: Gateway, app: str) -> None:
    answer = ask(gateway, app, headers={"penstock-forward": '{"x-request-id": "r-7"}'})
    assert (answer.status, answer.json()["outputs"][0]["data"]) == (200, [3.0, 4.0, 5.0])
    fields = [answer.headers[name] for name in ("penstock-model-version", "penstock-route", "x-request-id")]
    assert fields == ["2", "stable", "r-7"]
    times = dict(stage.split(";dur=") for stage in answer.headers["server-timing"].split(", "))
    assert [*times] == STAGES and all(float(spent) >= 0 for spent in times.values())
    first = ask(gateway, app, f"{PATH}?version=1")
    assert (first.json()["model_version"], first.headers["penstock-route"]) == ("1", "pinned")


def test_rules_see_the_stated_fields(gateway: Gateway, app: str) -> None:
    rule = {"header": "x-canary", "equals": "always", "version": "1"}
    route = {"split": {"2": 10_000}, "rules": [rule]}
    assert gateway.server.as_owner("PUT", "/admin/v1/models/digits/route", route).status == 200
    answer = ask(gateway, app, headers={"penstock-forward": '{"X-Canary": "always"}'})
    assert (answer.json()["model_version"], answer.headers["penstock-route"]) == ("1", "rule")
    assert ask(gateway, app).json()["model_version"] == "2"
    assert gateway.server.as_owner("DELETE", "/admin/v1/models/digits/route").status == 200


def test_the_owner_asks_without_a_credential(gateway: Gateway) -> None:
    assert gateway.server.as_owner("POST", PATH, BODY).status == 200
    assert gateway.server.rest("POST", "/v2/models/digits/infer", BODY).status == 401


def test_a_caller_without_predict_is_refused_before_the_data_plane(gateway: Gateway) -> None:
    assert ask(gateway, gateway.create("reader", "viewer")).status == 403
    assert ask(gateway, gateway.create("other", "caller", models=("fraud-*",))).status == 404
    assert ask(gateway, "nonsense").status == 401


def test_errors_are_those_of_the_data_plane(gateway: Gateway, app: str) -> None:
    headers = {"authorization": f"Bearer {app}"}
    unknown = gateway.server.admin("POST", f"{PATH}?version=9", BODY, headers)
    assert (unknown.status, "error" in unknown.json()) == (404, True)
    assert gateway.server.admin("POST", PATH, {"inputs": []}, headers).status == 400


def test_a_quota_counts_both_ways_together(gateway: Gateway) -> None:
    document = {"name": "slow", "roles": ["caller"], "quota": {"requests": 0.02}}
    key = gateway.server.as_owner("POST", "/admin/v1/keys", document).json()["key"]
    headers = {"authorization": f"Bearer {key}"}

    def answers() -> bool:
        return gateway.server.rest("POST", "/v2/models/digits/infer", BODY, headers).status == 200

    wait_until(answers, harness.PATIENCE_S, "the new key at the worker")
    refused = ask(gateway, key)
    assert refused.status == 429 and "quota" in refused.json()["error"] and int(refused.headers["retry-after"]) > 1


def test_a_credential_that_somebody_else_writes_opens_no_port(gateway: Gateway) -> None:
    forged = {"authorization": f"Bearer {write_delegation(bytes(32), OWNER, 'digits', time.time())}"}
    assert gateway.server.rest("POST", "/v2/models/digits/infer", BODY, forged).status == 401
    assert gateway.server.admin("POST", PATH, BODY, forged).status == 401


def test_a_model_says_why_requests_share_runs_and_where_its_aliases_were(gateway: Gateway) -> None:
    for version in ("1", "2"):
        move = gateway.server.as_owner("PUT", "/admin/v1/models/digits/aliases/champion", {"version": version})
        assert move.status == 200
    document = gateway.server.as_owner("GET", "/admin/v1/models/digits").json()
    assert document["alias_history"] == {"champion": ["1"]}
    assert [version["batching"].partition(":")[0] for version in document["versions"]] == 2 * ["requests share runs"]
    assert set(document["versions"][0]["signature"]) == {"inputs", "outputs"}


def test_the_ops_port_asks_a_port_with_tls(tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    files = {"certificate_file": str(pair.certificate), "key_file": str(pair.key)}
    models = zoo.place(tmp_path / "models", "digits", {"1": zoo.affine(1.0, 1.0, ("n", 3))}).parent
    with harness.running(models, tmp_path, "--workers", "1", env={"PENSTOCK_TLS": json.dumps(files)}) as server:
        assert server.as_owner("POST", PATH, BODY).json()["outputs"][0]["data"] == [2.0, 3.0, 4.0]
        addresses = server.as_owner("GET", "/admin/v1/gateway").json()
        assert addresses == {"http": server.http, "grpc": server.grpc, "tls": True, "authentication": False}
