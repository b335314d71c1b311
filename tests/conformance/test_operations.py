"""The ops port and the command line: probes, metrics that add up, the admin view, and how a start fails."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests import harness, zoo
from tests.conformance.wire import Ask, GrpcRaw, Input, Refused, RestJson
from tests.harness import PATIENCE_S, Server, wait_until

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]
ROWS = Input.of("x", "FP32", [[1, 2, 3]])


def scrape(server: Server) -> Samples:
    """Every sample of a scrape, by name and labels."""
    reply = server.admin("GET", "/metrics")
    assert reply.status == 200
    families: list[Metric] = list(parse_text(reply.body.decode()))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric over all series with these labels."""
    wanted = set(labels.items())
    return sum(value for (item, found), value in samples.items() if item == name and wanted <= found)


def test_probes_say_the_truth(pair_server: Server) -> None:
    assert pair_server.admin("GET", "/livez").status == 200
    ready = pair_server.admin("GET", "/readyz")
    assert ready.status == 200
    assert "2" in json.dumps(ready.json())


def test_the_ready_line_and_the_ready_file_agree(pair_server: Server) -> None:
    line = f"penstock ready http={pair_server.http} grpc={pair_server.grpc} ops={pair_server.ops}"
    assert pair_server.log_text().splitlines().count(line) == 1
    assert len(set(pair_server.workers)) == 2
    assert all(map(harness.is_alive, pair_server.workers))


def test_counters_equal_what_was_sent(pair_server: Server) -> None:
    before, sent = scrape(pair_server), Counter[str]()
    rest = RestJson(pair_server)
    for number in range(40):  # each on a connection of its own, so that both workers answer
        grpc = GrpcRaw(pair_server)
        grpc.infer(Ask("pair", [ROWS]))
        grpc.close()
        rest.infer(Ask("pair", [ROWS], version=str(1 + number % 2)))
        sent.update(["rest", "grpc"])
        with pytest.raises(Refused):
            rest.infer(Ask("pair", [], version="1"))
    after = scrape(pair_server)

    def gained(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    name = "penstock_requests_total"
    assert gained(name, model="pair", protocol="grpc", code="OK", route="stable", version="2") == 40
    assert gained(name, model="pair", protocol="rest", code="200", route="pinned", version="1") == 20
    assert gained(name, model="pair", protocol="rest", code="200", route="pinned", version="2") == 20
    assert gained(name, model="pair", protocol="rest", code="400", version="1") == 40
    assert gained(name, model="pair") == 120
    assert gained("penstock_request_duration_seconds_count", model="pair") == 120
    for stage in ("decode", "queue", "run", "encode"):
        assert gained("penstock_stage_duration_seconds_count", model="pair", stage=stage) == 80, stage
    wait_until(lambda: in_flight(pair_server) == 0, PATIENCE_S, "no request is in flight")


def in_flight(server: Server) -> float:
    """How many requests of the model wait or run."""
    return total(scrape(server), "penstock_inflight_requests", model="pair")


def test_refusals_are_counted_without_the_callers_text(pair_server: Server) -> None:
    before = scrape(pair_server)
    rest, grpc = RestJson(pair_server), GrpcRaw(pair_server)
    for transport in (rest, grpc):
        with pytest.raises(Refused):
            transport.infer(Ask("evil-name", [ROWS]))
    grpc.close()
    assert pair_server.rest("POST", "/v2/models/pair/infer", b"{").status == 400
    after = scrape(pair_server)
    name = "penstock_requests_total"
    for code in ("404", "NOT_FOUND"):
        labels = {"model": "_unknown", "version": "", "code": code}
        assert total(after, name, **labels) - total(before, name, **labels) == 1, code
    assert total(after, name, model="pair", code="400") - total(before, name, model="pair", code="400") == 1
    assert "evil-name" not in str(after)


def test_histograms_are_whole_and_fine(pair_server: Server) -> None:
    RestJson(pair_server).infer(Ask("logistic", [Input.of("x", "FP32", [[0.5] * 30])]))
    samples = scrape(pair_server)
    for name in ("penstock_request_duration_seconds", "penstock_stage_duration_seconds", "penstock_batch_rows"):
        series = histogram(samples, name)
        assert series, name
        for buckets, count in series:
            values = [value for _, value in buckets]
            assert values == sorted(values), name
            assert buckets[-1] == (float("inf"), count), name
    bounds = [bound for bound, _ in histogram(samples, "penstock_request_duration_seconds")[0][0]]
    assert sum(bound < 0.001 for bound in bounds) >= 5


def histogram(samples: Samples, name: str) -> list[tuple[list[tuple[float, float]], float]]:
    """The cumulative buckets and the count of each series."""
    grouped: dict[Labels, list[tuple[float, float]]] = {}
    for (item, labels), value in samples.items():
        if item == f"{name}_bucket":
            rest = frozenset(pair for pair in labels if pair[0] != "le")
            grouped.setdefault(rest, []).append((float(dict(labels)["le"]), value))
    return [(sorted(buckets), samples[f"{name}_count", labels]) for labels, buckets in grouped.items()]


def test_openmetrics_is_served_on_request(pair_server: Server) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    reply = pair_server.admin("GET", "/metrics", headers=accept)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")
    names = {family.name for family in parse_openmetrics(reply.body.decode())}  # type: ignore[no-untyped-call]
    assert {"penstock_requests", "penstock_request_duration_seconds", "penstock_model_info"} <= names
    plain = pair_server.admin("GET", "/metrics")
    assert plain.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_metrics_are_compressed_for_who_takes_that(coding: str, pair_server: Server) -> None:
    reply = pair_server.admin("GET", "/metrics", headers={"accept-encoding": f"{coding};q=1, identity;q=0.5"})
    assert reply.headers["content-encoding"] == coding
    assert b"# TYPE penstock_inflight_requests gauge" in reply.inflated()
    assert len(reply.body) < len(reply.inflated()) / 2


def test_models_and_their_states_are_metrics(pair_server: Server) -> None:
    samples = scrape(pair_server)
    assert total(samples, "penstock_model_info", model="pair", version="1") >= 1
    assert total(samples, "penstock_model_state", model="pair", version="2", state="READY") >= 1
    assert total(samples, "penstock_model_loads_total", model="pair") >= 2


@pytest.mark.usefixtures("server")
def test_scrapes_never_go_backwards(pair_server: Server) -> None:
    stop = threading.Event()
    rest = RestJson(pair_server)

    def load() -> None:
        while not stop.is_set():
            rest.infer(Ask("pair", [ROWS]))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        last = scrape(pair_server)
        for _ in range(30):
            now = scrape(pair_server)
            for key, value in last.items():
                if key[0].endswith(("_total", "_bucket", "_count", "_sum")):
                    assert now.get(key, -1) >= value, key
            last = now
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def test_the_admin_view_lists_models(pair_server: Server) -> None:
    everything = pair_server.admin("GET", "/admin/v1/models")
    assert everything.status == 200
    assert "pair" in json.dumps(everything.json())
    one = pair_server.admin("GET", "/admin/v1/models/pair").json()
    versions = {entry["version"]: entry for entry in one["versions"]}
    assert {"1", "2"} == set(versions)
    assert {entry["state"] for entry in versions.values()} == {"READY"}
    assert pair_server.admin("GET", "/admin/v1/models/nobody").status == 404
    assert pair_server.admin("GET", "/admin/v1/models/nobody").error()


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/nothing", 404), ("POST", "/livez", 405)])
def test_ops_mistakes_are_json(pair_server: Server, method: str, path: str, code: int) -> None:
    reply = pair_server.admin(method, path)
    assert reply.status == code
    assert reply.error()


def test_broken_models_are_listed_in_the_log(server: Server, zoo_folder: Path) -> None:
    log = server.log_text()
    for name in zoo.UNAVAILABLE:
        assert name in log, name
    assert "Traceback" not in log


# Starts that cannot succeed.


def folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Folders that hold no model, and why."""
    yield "missing", root / "missing"
    (root / "empty").mkdir()
    yield "empty", root / "empty"
    (root / "file").write_text("x")
    yield "a file", root / "file"


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
def test_a_wrong_folder_ends_with_one_line(tmp_path: Path, kind: str) -> None:
    folder = dict(folders(tmp_path))[kind]
    ended = harness.run_command("serve", str(folder), "--http-port", "0", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


WRONG_OPTIONS: dict[str, list[str]] = {
    "unknown": ["--nothing"],
    "workers": ["--workers", "many"],
    "no workers": ["--workers", "0"],
    "port": ["--http-port", "70000"],
    "port text": ["--grpc-port", "x"],
    "config": ["--config", "/nowhere/penstock.yaml"],
}


@pytest.mark.parametrize("options", WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_a_wrong_option_ends_with_exit_two(tiny_folder: Path, tmp_path: Path, options: list[str]) -> None:
    ended = harness.run_command("serve", str(tiny_folder), *options, folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.strip()
    assert "Traceback" not in ended.stderr


def test_a_taken_port_ends_with_one_line(pair_server: Server, tiny_folder: Path, tmp_path: Path) -> None:
    port = pair_server.ops.rpartition(":")[2]
    options = ["--http-port", "0", "--grpc-port", "0", "--ops-port", port]
    ended = harness.run_command("serve", str(tiny_folder), *options, folder=tmp_path)
    assert ended.returncode in {1, 2, 7}
    assert port in ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_come_from_environment_and_flags(tiny_folder: Path, tmp_path: Path) -> None:
    with harness.running(tiny_folder, tmp_path, env={"PENSTOCK_WORKERS": "2"}) as started:
        assert len(started.workers) == 2
        assert started.http.startswith("127.0.0.1:")
        document: Any = started.rest("GET", "/v2").json()
        assert document["name"] == "penstock"
    assert started.process.poll() == 0
