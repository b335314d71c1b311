"""Routes through the whole server: four workers, REST and gRPC, shadows, labels, and every change acknowledged."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from penstock.cli.grpc_client import to_message
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests import harness
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic.drive import (
    FEATURES,
    GOOD,
    SAME,
    SLOW,
    TURNED,
    Asker,
    ask_many,
    models,
    promote_champion,
    set_route,
)

WORKERS = 4
ROUTE = "/admin/v1/models/m/route"
REQUEST = {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = tmp_path_factory.mktemp("routes")
    with harness.running(models(workspace / "models"), workspace, "--workers", str(WORKERS)) as running:
        promote_champion(running, GOOD)
        yield running


@pytest.fixture(autouse=True)
def clean(server: Server) -> Iterator[None]:
    yield
    assert server.admin("DELETE", ROUTE).status == 200


def test_without_a_route_the_champion_answers_and_is_shown(server: Server) -> None:
    shown = server.admin("GET", ROUTE).json()
    assert (shown["split"], shown["set"], shown["stable"]) == ({GOOD: 10_000}, False, GOOD)
    assert ask_many(server, 20) == {(GOOD, "stable", 200): 20}


def test_a_split_over_four_workers(server: Server) -> None:
    set_route(server, split={GOOD: 7000, SAME: 3000, SLOW: 0})
    found = ask_many(server, 4000)
    assert set(found) == {(GOOD, "stable", 200), (SAME, "canary", 200)}
    assert abs(found[SAME, "canary", 200] / 4000 - 0.3) < 0.03  # four standard deviations
    assert metric(server, "penstock_traffic_weight_ratio", version=SAME) == 0.3


def test_sticky_users_meet_one_version_on_every_worker_and_few_move(server: Server) -> None:
    def of(number: int) -> dict[str, str]:
        return {"x-user-id": f"user {number % 100}"}

    def meet() -> dict[str, str]:
        met: dict[str, set[str]] = {}
        for number in range(100):
            asker = Asker(server, number)  # another connection may reach another worker
            for _ in range(4):
                met.setdefault(of(number)["x-user-id"], set()).add(asker.ask(of(number))[0])
            asker.close()
        assert all(len(versions) == 1 for versions in met.values())
        return {user: versions.pop() for user, versions in met.items()}

    set_route(server, split={GOOD: 8000, SAME: 2000}, sticky="header:x-user-id")
    before = meet()
    set_route(server, split={GOOD: 5000, SAME: 5000}, sticky="header:X-User-ID")
    after = meet()
    assert all(after[user] == SAME for user, version in before.items() if version == SAME)
    assert 5 < Counter(before.values())[SAME] < 40 < Counter(after.values())[SAME] + 10


def test_users_without_a_name_are_divided(server: Server) -> None:
    """An empty header or metadata value is none: it must not send everybody to one version."""
    set_route(server, split={GOOD: 5000, SAME: 5000}, sticky="header:x-user-id")
    asker = Asker(server)
    assert {asker.ask({"x-user-id": ""})[0] for _ in range(64)} == {GOOD, SAME}
    long = {"x-user-id": "u" * 20_000}
    assert len({asker.ask(long)[0] for _ in range(8)}) == 1
    asker.close()
    with grpc.insecure_channel(server.grpc) as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer
        metadata = (("x-user-id", ""),)
        answers = [infer(to_message("m", "", REQUEST), timeout=PATIENCE_S, metadata=metadata) for _ in range(64)]
        assert {answer.model_version for answer in answers} == {GOOD, SAME}


def test_rules_come_before_the_split_and_pins_before_all(server: Server) -> None:
    rule = {"header": "X-Canary", "equals": "always", "version": TURNED}
    set_route(server, split={GOOD: 10_000}, rules=[rule])
    asker = Asker(server)
    assert asker.ask({"x-canary": "always"}) == (TURNED, "rule", 200)
    assert asker.ask({"x-canary": "never"}) == (GOOD, "stable", 200)
    assert asker.ask({"x-canary": "always"}, version=SAME) == (SAME, "pinned", 200)
    assert asker.ask({"x-canary": "always"}, version="champion") == (GOOD, "pinned", 200)
    asker.close()


def test_grpc_follows_the_same_route(server: Server) -> None:
    rule = {"header": "x-canary", "equals": "always", "version": TURNED}
    set_route(server, split={GOOD: 5000, SAME: 5000}, rules=[rule], sticky="header:x-user-id")
    with grpc.insecure_channel(server.grpc) as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer

        def ask(*metadata: tuple[str, str], version: str = "") -> tuple[str, str]:
            answer, call = infer.with_call(to_message("m", version, REQUEST), timeout=PATIENCE_S, metadata=metadata)
            facts = dict(call.initial_metadata())
            assert facts["penstock-model-version"] == answer.model_version
            return answer.model_version, str(facts["penstock-route"])

        assert ask(("x-canary", "always")) == (TURNED, "rule")
        assert ask(("x-canary", "always"), version=SAME) == (SAME, "pinned")
        users = [f"user {number}" for number in range(40)]
        by_grpc = {user: ask(("x-user-id", user))[0] for user in users}
    asker = Asker(server)
    assert by_grpc == {user: asker.ask({"x-user-id": user})[0] for user in users}
    asker.close()
    assert set(by_grpc.values()) == {GOOD, SAME}


@pytest.mark.parametrize(
    ("route", "status"),
    [
        ({"split": {GOOD: 9000, SAME: 900}}, 400),
        ({"split": {GOOD: 9000, "99": 1000}}, 404),
        ({"split": {GOOD: 10_000}, "shadow": [{"version": "99", "percent": 1}]}, 404),
        ({"split": {GOOD: 10_000}, "rules": [{"header": "x", "equals": "y", "version": "99"}]}, 404),
        ({"split": {GOOD: 10_000}, "speed": 1}, 400),
        ({"split": {GOOD: 10_000}, "sticky": "cookie"}, 400),
        ({}, 400),
    ],
)
def test_an_invalid_route_is_refused_whole_and_the_old_one_stays(
    server: Server, route: dict[str, object], status: int
) -> None:
    before = set_route(server, split={GOOD: 9000, SAME: 1000})
    reply = server.admin("PUT", ROUTE, route)
    assert reply.status == status, reply
    assert reply.error()
    after = server.admin("GET", ROUTE).json()
    assert (after["split"], after["revision"]) == (before["split"], before["revision"])


def test_changes_compare_and_set_and_are_audited(server: Server) -> None:
    reply = server.admin("PUT", ROUTE, {"split": {GOOD: 10_000}, "reason": "first"}, {"penstock-actor": "ann"})
    revision = reply.headers["etag"]
    assert reply.json()["revision"] == int(revision.strip('"'))
    second = server.admin("PUT", ROUTE, {"split": {GOOD: 5000, SAME: 5000}}, {"if-match": revision})
    assert second.status == 200
    stale = server.admin("PUT", ROUTE, {"split": {GOOD: 10_000}}, {"if-match": revision})
    assert stale.status == 409
    assert server.admin("GET", ROUTE).json()["split"] == {GOOD: 5000, SAME: 5000}
    entries = server.admin("GET", "/admin/v1/audit?model=m").json()["entries"]
    reported = next(entry for entry in entries if entry["reason"] == "first")
    assert (reported["actor"], reported["action"], reported["subject"]) == ("ann", "route.set", "models/m/route")
    assert reported["after"]["split"] == {GOOD: 10_000}
    assert entries[-1]["before"]["split"] == {GOOD: 10_000}


def test_racing_changes_with_one_revision_have_one_winner(server: Server) -> None:
    revision = set_route(server, split={GOOD: 10_000})["revision"]
    statuses: list[int] = []

    def race(weight: int) -> None:
        route = {"split": {GOOD: 10_000 - weight, SAME: weight}}
        statuses.append(server.admin("PUT", ROUTE, route, {"if-match": f'"{revision}"'}).status)

    threads = [threading.Thread(target=race, args=(weight,)) for weight in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(statuses) == [200] + [409] * 7


def test_shadows_answer_unseen_and_are_counted_exactly(server: Server) -> None:
    before = {version: server.admin("GET", f"/admin/v1/models/m/shadow/{version}").json() for version in (SLOW, TURNED)}
    shadows = [{"version": SLOW, "percent": 100}, {"version": TURNED, "percent": 25}]
    set_route(server, split={GOOD: 10_000}, shadow=shadows)
    assert ask_many(server, 1200) == {(GOOD, "stable", 200): 1200}

    def gained(version: str, word: str) -> float:
        now = server.admin("GET", f"/admin/v1/models/m/shadow/{version}").json()
        return float(now[word] - before[version][word])

    assert gained(SLOW, "mirrored") == 1200
    assert 220 < gained(TURNED, "mirrored") < 380
    for version in (SLOW, TURNED):
        wait_until(
            lambda version=version: (
                gained(version, "mirrored")  # type: ignore[misc]
                == sum(gained(version, word) for word in ("pairs", "missed", "dropped"))
            ),
            PATIENCE_S,
            "every mirrored request accounted for",
        )
        assert gained(version, "pairs") > 0
    assert gained(SLOW, "disagreements") == 0
    assert gained(TURNED, "disagreements") > 0
    turned = server.admin("GET", f"/admin/v1/models/m/shadow/{TURNED}").json()
    assert 0 < turned["flip_ratio"] <= 1
    assert turned["max_abs_diff"] > 0.1
    outcomes = {
        word: metric(server, "penstock_shadow_requests_total", version=TURNED, outcome=word)
        for word in ("pair", "missed", "dropped")
    }
    assert sum(outcomes.values()) == turned["mirrored"]
    assert metric(server, "penstock_shadow_pairs_total", version=TURNED) == turned["pairs"]
    wait_until(
        lambda: bool(server.admin("GET", f"/admin/v1/models/m/shadow/{TURNED}").json()["samples"]),
        PATIENCE_S,
        "samples",
    )
    sample = server.admin("GET", f"/admin/v1/models/m/shadow/{TURNED}").json()["samples"][0]
    assert sample["inputs"][0]["shape"] == [1, FEATURES]
    assert sample["outputs"] != sample["shadow_outputs"]
    assert server.admin("GET", "/admin/v1/models/m/shadow/99").status == 404


def test_rewards_reach_the_worker_that_answered(server: Server) -> None:
    reply = server.admin(
        "POST", "/admin/v1/models/m/experiments", {"arms": {GOOD: 5000, SAME: 5000}, "reason": "which"}
    )
    assert reply.status == 201, reply
    trial = reply.json()
    path = f"/admin/v1/models/m/experiments/{trial['id']}"
    wait_until(lambda: ask_many(server, 4)[SAME, "canary", 200] > 0, PATIENCE_S, "the experiment's route")
    asker = Asker(server)
    for _ in range(200):
        asker.ask()
    asker.close()
    other = Asker(server)  # feedback goes to whichever worker: it has to find the one that answered
    reported = [{"id": call_id, "reward": 1.0 if version == SAME else 0.0} for call_id, version in asker.ids]
    answer = server.rest("POST", "/v2/models/m/feedback", {"feedback": [*reported, {"id": "nobody's", "reward": 1}]})
    assert (answer.status, answer.json()) == (202, {"accepted": 201, "unmatched": 1})
    other.close()
    versions = Counter(version for _, version in asker.ids)

    def counted() -> bool:
        arms = server.admin("GET", path).json()["arms"]
        return {arm: item["rewards"] for arm, item in arms.items()} == dict(versions)

    wait_until(counted, PATIENCE_S, "every reward counted once")
    arms = server.admin("GET", path).json()["arms"]
    assert (arms[GOOD]["mean"], arms[SAME]["mean"]) == (0.0, 1.0)
    assert server.admin("POST", f"{path}/stop", {}).json()["state"] == "stopped"
    for body in ({"feedback": [{"id": "x"}]}, {"feedback": [{"id": "x", "reward": 2}]}, {"feedback": 3}, {}):
        assert server.rest("POST", "/v2/models/m/feedback", body).status == 400
    assert server.rest("POST", "/v2/models/nobody/feedback", {"feedback": []}).status == 404


def test_a_route_outlives_every_process(tmp_path: Path) -> None:
    folder = models(tmp_path / "models")
    route = {
        "split": {GOOD: 6000, SAME: 4000},
        "sticky": "header:x-user-id",
        "rules": [{"header": "x-canary", "equals": "always", "version": TURNED}],
        "shadow": [{"version": SLOW, "percent": 5}],
    }
    users = [f"user {number}" for number in range(60)]
    first = harness.launch(folder, tmp_path, "--workers", "1")
    try:
        set_route(first, **route)
        asker = Asker(first)
        before = {user: asker.ask({"x-user-id": user}) for user in users}
        asker.close()
    finally:
        first.kill()
    with harness.running(folder, tmp_path, "--workers", "2") as second:
        shown = second.admin("GET", ROUTE).json()
        assert {key: shown[key] for key in route} == route
        asker = Asker(second)
        assert {user: asker.ask({"x-user-id": user}) for user in users} == before
        asker.close()
