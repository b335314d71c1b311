"""`penstock loadtest` against real gateways: both transports, files of rows, objectives, comparisons, and Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from penstock.cli.console import ExitCode
from tests import zoo
from tests.harness import COMMAND, PATIENCE_S, Server, call, environment, running, wait_until
from tests.keys import ACCEPT_KEYS, create_key

Run = Callable[..., Any]
QUICK = ["--rate", "80", "--seconds", "0.8", "--warmup", "0.1", "--connections", "4", "--max-lag", "100000"]
"""A short test, whose generator may be as slow as a busy machine makes it."""


@pytest.fixture(params=["rest", "grpc"])
def by(request: pytest.FixtureRequest, server: Server) -> list[str]:
    """The options that choose a transport."""
    return ["--url", server.http] if request.param == "rest" else ["--url", server.grpc, "--grpc"]


def loaded(penstock: Run, tmp_path: Path, *arguments: str, code: int = ExitCode.OK) -> dict[str, Any]:
    """The report of a load test."""
    file = tmp_path / "report.json"
    result = penstock("loadtest", *arguments, *QUICK, "--json", str(file))
    assert result.code == code, result
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def test_a_model_is_loaded_and_its_objectives_are_kept(penstock: Run, by: list[str], tmp_path: Path) -> None:
    junit, page = tmp_path / "junit.xml", tmp_path / "page.html"
    slo = ["--slo", "p99<60s", "--slo", "errors<1%", "--slo", "rate>1"]
    report = loaded(penstock, tmp_path, "pair", *by, *slo, "--junit", str(junit), "--html", str(page))
    assert report["outcome"] == "pass"
    (target,) = report["targets"]
    assert target["answered"] == target["requests"] > 20 and target["failures"] == {}
    assert target["latency_ms"]["p50"] >= target["service_ms"]["p50"] > 0
    assert target["stages_ms"]["run"] > 0 and sum(target["versions"].values()) >= target["requests"]
    assert [found["outcome"] for found in report["objectives"]] == ["pass"] * 3
    assert len(list(ElementTree.parse(junit).iter("testcase"))) == 4
    assert "<svg" in page.read_text()


def test_a_breach_is_refused_by_policy(penstock: Run, by: list[str], tmp_path: Path) -> None:
    report = loaded(penstock, tmp_path, "pair", *by, "--slo", "p50<0.001us", code=ExitCode.REFUSED)
    assert report["outcome"] == "breach"


def test_errors_of_the_gateway_are_failures(penstock: Run, by: list[str], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    good = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    bad = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 3], "data": [1, 2, 3]}]}
    rows.write_text(f"{json.dumps(good)}\n\n{json.dumps(bad)}\n[4, 5, 6]\n")
    slo = ["--slo", "errors<10%"]
    report = loaded(penstock, tmp_path, "pair", *by, "--rows", str(rows), *slo, code=ExitCode.REFUSED)
    (target,) = report["targets"]
    assert set(target["failures"]) == {"INVALID_ARGUMENT" if "--grpc" in by else "HTTP 400"}
    assert target["error_ratio"] == pytest.approx(1 / 3, abs=0.1)
    assert report["inputs"] == "rows.jsonl"


@pytest.mark.parametrize("header", ["x[0],x[1],x[2]", "x[2],label,x[1],x[0]", "first,second,third"])
def test_rows_of_a_table(penstock: Run, server: Server, tmp_path: Path, header: str) -> None:
    rows = tmp_path / "rows.csv"
    line = ",".join("1.5" for _ in header.split(","))
    rows.write_text("\n".join([header, line, line, line]) + "\n")
    options = ["--url", server.http, "--rows", str(rows), "--rows-per-request", "2"]
    assert loaded(penstock, tmp_path, "pair", *options)["targets"][0]["failures"] == {}


def test_versions_are_compared_in_turn(penstock: Run, by: list[str], tmp_path: Path) -> None:
    slo = ["--slo", "p50_ratio<1000", "--slo", "p99<60s"]
    report = loaded(penstock, tmp_path, "pair:2", *by, "--against", "1", *slo)
    own, other = report["targets"]
    assert (own["name"], other["name"]) == ("pair:2", "pair:1")
    assert set(own["versions"]) == {"2"} and set(other["versions"]) == {"1"}
    assert own["requests"] == other["requests"]
    ratio = report["comparison"]["ratios"]["p50_ratio"]
    assert ratio["pairs"] > 0 and report["objectives"][0]["metric"] == "p50_ratio"


def test_another_gateway_is_compared(penstock: Run, server: Server, pair_server: Server, tmp_path: Path) -> None:
    report = loaded(penstock, tmp_path, "pair", "--url", server.http, "--against", pair_server.http)
    assert [target["address"] for target in report["targets"]] == [server.http, pair_server.http]


def test_a_search_finds_a_rate(penstock: Run, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    options = ["--seconds", "0.3", "--warmup", "0", "--connections", "4", "--max-lag", "100000", "--budget", "1.5"]
    slo = ["--slo", "p50<60s"]
    result = penstock(
        "loadtest", "pair", "--url", server.http, "--rate", "20", *options, *slo, "--find-capacity", "--json", str(file)
    )
    assert result.code == ExitCode.OK, result
    capacity = json.loads(file.read_text())["capacity"]
    assert capacity["rate"] >= 20 and 1 <= len(capacity["trials"]) <= 5
    assert not capacity["confirmed"] and "was over before" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nothing"], ExitCode.NOT_FOUND, "nothing"),
        (["pair:99"], ExitCode.NOT_FOUND, "99"),
        (["pair", "--slo", "p99<20"], ExitCode.USAGE, "expected a limit of p99 in"),
        (["pair", "--rate", "5", "--ramp", "1:2:3"], ExitCode.USAGE, "exclude each other"),
        (["pair", "--ramp", "1:2"], ExitCode.USAGE, "--ramp: expected A:B:S"),
        (["pair", "--ramp", "1:2:3", "--against", "1"], ExitCode.USAGE, "--against compares at one rate"),
        (["pair", "--find-capacity"], ExitCode.USAGE, "needs an objective"),
        (["pair", "--slo", "p99_ratio<2"], ExitCode.USAGE, "give --against"),
        (["pair", "--arrivals", "bursts"], ExitCode.USAGE, "expected poisson or constant"),
        (["pair", "--rows", "/nowhere.csv"], ExitCode.USAGE, "cannot be read"),
        (["pair", "--shape", "y=1,2"], ExitCode.USAGE, "unknown input 'y'"),
        (["pair", "--html", "/nowhere/page.html"], ExitCode.FAILURE, "/nowhere/page.html cannot be written"),
        (["pair", "--rate", "100000000"], ExitCode.USAGE, "at most 10,000,000 requests"),
    ],
)
def test_a_mistake_ends_with_a_sentence(
    penstock: Run, server: Server, arguments: list[str], code: ExitCode, text: str
) -> None:
    result = penstock("loadtest", *arguments, "--url", server.http)
    assert result.code == code, result
    assert text in result.err and "Traceback" not in result.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_reports_are_written_where_stdout_is_full(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with Path("/dev/full").open("w") as full:
        subprocess.run(
            [*COMMAND, "loadtest", "pair", "--url", server.http, *QUICK, "--json", str(file)],
            stdout=full,
            stderr=subprocess.DEVNULL,
            env=environment(tmp_path),
            timeout=PATIENCE_S,
            check=False,
        )
    assert json.loads(file.read_text())["outcome"] == "pass"


def test_no_gateway_is_unavailable(penstock: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    result = penstock("loadtest", "pair", "--url", f"127.0.0.1:{free}")
    assert result.code == ExitCode.UNAVAILABLE and "no answer from" in result.err


@pytest.mark.parametrize("text", ["", "x\n", "x[0],x[1]\n1,2\n", "x[0],x[1],x[2]\n1,2\n", "x[0],x[1],x[2]\n1,a,3\n"])
def test_rows_that_do_not_fit_are_refused(penstock: Run, server: Server, tmp_path: Path, text: str) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(text)
    result = penstock("loadtest", "pair", "--url", server.http, "--rows", str(rows))
    assert result.code == ExitCode.USAGE and "--rows:" in result.err


def test_an_interrupted_test_reports_what_it_measured(server: Server, tmp_path: Path) -> None:
    report, output = tmp_path / "report.json", tmp_path / "out"
    options = ["--seconds", "600", "--warmup", "0", "--rate", "50", "--json", str(report), "--max-lag", "100000"]
    before = requests_of(server)
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "loadtest", "counts_to_ten", "--url", server.http, *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(tmp_path),
        )
    try:
        wait_until(lambda: requests_of(server) > before + 20, PATIENCE_S, output.read_text)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    finally:
        process.kill()
        process.wait()
    document = json.loads(report.read_text())
    assert document["outcome"] == "interrupted"
    assert 0 < document["targets"][0]["requests"] < 600 * 50
    assert "interrupted: the report has what was measured until then" in output.read_text()


def test_a_key_is_sent_on_both_transports(penstock: Run, tmp_path: Path) -> None:
    models = zoo.place(tmp_path / "models", "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))}).parent
    with running(models, tmp_path / "gateway", env=ACCEPT_KEYS) as gateway:
        token = tmp_path / "token"
        token.write_text(create_key(tmp_path / "gateway", "tester", "caller"))
        for options in (["--url", gateway.http], ["--url", gateway.grpc, "--grpc"]):
            assert penstock("loadtest", "m", *QUICK, *options).code == ExitCode.UNAUTHORISED
            slo = ["--token-file", str(token), "--slo", "errors<=0"]
            assert loaded(penstock, tmp_path, "m", *options, *slo)["outcome"] == "pass"


def test_inputs_follow_the_reference_of_a_model(penstock: Run, tmp_path: Path) -> None:
    models = zoo.place(tmp_path / "models", "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))}).parent
    training = "\n".join(["a,b,c", *(f"{row % 7},{row},{5.5}" for row in range(300))]).encode()
    with running(models, tmp_path / "gateway") as gateway:
        refused = penstock("loadtest", "m", *QUICK, "--url", gateway.http, "--reference", gateway.ops)
        assert refused.code == ExitCode.USAGE and "has no reference" in refused.err
        made = call(gateway.ops, "PUT", "/admin/v1/models/m/versions/1/reference", training)
        assert made.status == 201, made
        monitor = "/admin/v1/models/m/monitor?version=1"
        wait_until(lambda: gateway.admin("GET", monitor).json()["reference"] is not None, PATIENCE_S, "the reference")
        report = loaded(penstock, tmp_path, "m", "--url", gateway.http, "--reference", gateway.ops)
        assert report["inputs"] == "reference" and report["targets"][0]["failures"] == {}


def requests_of(server: Server) -> int:
    """How many requests the model of the interrupted test has had."""
    documents = server.rest("GET", "/v2/models/counts_to_ten/stats").json()["model_stats"]
    return sum(int(document["inference_stats"]["success"]["count"]) for document in documents)


def test_other_verbs_start_without_what_load_tests_need() -> None:
    program = "import sys, penstock.cli.predict; print(*[m for m in sys.modules if m.startswith('penstock.loadtest')])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.split() == []
