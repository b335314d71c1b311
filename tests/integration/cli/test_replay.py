"""`penstock replay` against a real gateway: what tritonclient sent is captured, and sent again by both transports."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tritonclient import grpc, http

from penstock.cli.console import ExitCode
from penstock.monitor.answers import prefix_of
from tests.harness import PATIENCE_S, Server, running, wait_until
from tests.integration.traffic.drive import FEATURES, GOOD, SAME, TURNED, models

Run = Callable[..., Any]
REQUESTS = 40


@dataclass(frozen=True)
class Captured:
    """A gateway with captured requests of the version GOOD, and its home."""

    server: Server
    home: Path


def send(client: Any, module: Any, number: int) -> None:
    rows = np.random.default_rng(number).normal(size=(1 + number % 3, FEATURES)).astype(np.float32)
    tensor = module.InferInput("x", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    client.infer("m", [tensor], model_version=GOOD, request_id=f"r{number}")


def count_captured(server: Server) -> int:
    found = server.admin("GET", f"/admin/v1/models/m/monitor?version={GOOD}").json()
    return int(found["capture"]["captured"])


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    folder = tmp_path_factory.mktemp("replay")
    with running(models(folder / "models"), folder, "--workers", "1") as server:
        assert server.as_owner("PUT", "/admin/v1/models/m/policy", {"capture": {"sample": 1.0}}).status == 200
        with http.InferenceServerClient(server.http) as by_rest, grpc.InferenceServerClient(server.grpc) as by_grpc:
            numbers = iter(range(1_000_000))

            def is_captured() -> bool:  # the workers learn of the policy a little later
                send(by_rest, http, next(numbers))
                return count_captured(server) > 0

            wait_until(is_captured, PATIENCE_S, "the first captured request")
            before = next(numbers)
            for number in range(REQUESTS):
                client, module = (by_rest, http) if number % 2 else (by_grpc, grpc)
                send(client, module, before + number)
        wait_until(lambda: count_captured(server) > REQUESTS, PATIENCE_S, "the captured requests")
        yield Captured(server, folder / "home")


def test_equal_versions_pass_and_different_ones_do_not(
    captured: Captured, penstock: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate of a pipeline, by both transports, from the home of the gateway, a folder and a file of Parquet."""
    monkeypatch.setenv("PENSTOCK_HOME", str(captured.home))
    server = captured.server
    table, total = tmp_path / "rows.parquet", count_captured(server)
    exported = penstock("capture", f"m:{GOOD}", "-o", str(table))
    assert exported.code == ExitCode.OK, exported
    rest = ["--to", f"http://{server.http}", "--compare"]
    by_grpc = ["--to", f"http://{server.grpc}", "--compare", "--grpc", "--speed", "asap"]
    cases = [
        ([f"m:{GOOD}", *rest, "--model", f"m:{SAME}", "--speed", "20x"], ExitCode.OK),
        ([str(captured.home / "captures"), *rest, "--model", f"m:{TURNED}", "--speed", "asap"], ExitCode.REFUSED),
        ([str(table), *by_grpc, "--model", f"m:{SAME}"], ExitCode.OK),
        ([str(captured.home / "captures"), *by_grpc, "--model", f"m:{TURNED}"], ExitCode.REFUSED),
    ]
    for arguments, code in cases:
        report = replay(penstock, tmp_path, arguments, code)
        assert report["requests"]["ended"] == {"answered": 2 * total}
        assert (report["comparison"]["compared"], report["comparison"]["noisy"]) == (total, 0)
        assert (report["comparison"]["differ"] > total / 2) == (code == ExitCode.REFUSED)
        assert report["versions"] == {arguments[arguments.index("--model") + 1].removeprefix("m:"): 2 * total}
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    assert "Replay to m:4" in (tmp_path / "page.html").read_text()
    assert_unseen(captured, total)


def replay(penstock: Run, tmp_path: Path, arguments: list[str], code: int) -> dict[str, Any]:
    files = {"json": tmp_path / "report.json", "junit": tmp_path / "junit.xml", "html": tmp_path / "page.html"}
    options = [part for form, file in files.items() for part in (f"--{form}", str(file))]
    result = penstock("replay", *arguments, *options)
    assert result.code == code, result
    report: dict[str, Any] = json.loads(files["json"].read_text())
    return report


def assert_unseen(captured: Captured, total: int) -> None:
    """What was replayed is in no capture and among no live requests; its rows are counted apart."""
    assert count_captured(captured.server) == total
    for version in (SAME, TURNED):
        found = captured.server.admin("GET", f"/admin/v1/models/m/monitor?version={version}").json()
        assert found["requests"]["answered"] == 0
        assert found["marked_rows"]["replay"] > total
        assert not list((captured.home / "captures").glob(f"{prefix_of('m')}@{version}@*"))
