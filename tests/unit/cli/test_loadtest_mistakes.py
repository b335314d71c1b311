"""What `penstock loadtest` finds out before it sends anything: figures, files and rows that cannot be used."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from penstock.cli.client import CallFailed, InferReply, RestClient
from penstock.cli.loadtest.inputs import requests_of
from penstock.cli.loadtest.options import LoadTestOptions, read_options
from penstock.cli.loadtest.output import find_unwritable
from penstock.cli.loadtest.target import other_place, place_of
from penstock.cli.requests import BadData

PLAIN = LoadTestOptions(
    name="m", rate=None, ramp=None, seconds=None, warmup=2.0, by_grpc=False, rows=None, reference=None,
    rows_per_request=1, shapes=(), against=None, slo=(), find_capacity=False, budget=300.0, connections=1,
    arrivals="poisson", timeout=10.0, max_lag=1.0, seed=1, files={}, url=None,
)  # fmt: skip
TWO = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
INFINITE = float("inf")


@pytest.mark.parametrize(
    "options",
    [
        replace(PLAIN, rate=INFINITE),
        replace(PLAIN, rate=INFINITE, seconds=INFINITE),
        replace(PLAIN, seconds=INFINITE),
        replace(PLAIN, warmup=INFINITE),
        replace(PLAIN, warmup=1e6),
        replace(PLAIN, ramp="0:1:1", warmup=1e8),
    ],
)
def test_a_load_test_is_bounded(options: LoadTestOptions) -> None:
    with pytest.raises(BadData, match="at most 10,000,000 requests"):
        read_options(options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (replace(PLAIN, name=""), "expected the name of a model"),
        (replace(PLAIN, name=":1"), "expected the name of a model"),
        (replace(PLAIN, against=""), "--against: expected a version"),
        (replace(PLAIN, against="", slo=("p99_ratio<1.1",)), "--against: expected a version"),
        (replace(PLAIN, find_capacity=True, slo=("p99<1s", "rate>500")), "leave out objectives of the rate"),
    ],
)
def test_options_that_would_judge_nothing_are_refused(options: LoadTestOptions, text: str) -> None:
    with pytest.raises(BadData, match=text):
        read_options(options)


def test_a_report_that_cannot_be_written_is_found_before_the_load(tmp_path: Path) -> None:
    assert find_unwritable({"json": tmp_path / "a.json", "junit": None, "html": tmp_path / "b.html"}) == ""
    assert "is a directory" in find_unwritable({"json": tmp_path})
    assert "no such file or directory" in find_unwritable({"json": None, "junit": tmp_path / "nowhere" / "a.xml"})
    same = find_unwritable({"json": tmp_path / "a", "html": tmp_path / "a"})
    assert same == "expected a file of its own for each report"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "\ufeffx[0],x[1]\r\n1,2\r\n\r\n3,4\r\n"),
        ("rows.jsonl", '\ufeff{"x": [[1, 2]]}\r\n\r\n[[3, 4]]\r\n'),
    ],
)
def test_files_of_spreadsheets_are_read(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", newline="")
    _, requests = requests_of(replace(PLAIN, rows=file), TWO)
    assert len(requests) == 2


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_values_without_a_json_form_need_grpc(datatype: str) -> None:
    inputs = [{"name": "x", "datatype": datatype, "shape": [-1, 2]}]
    with pytest.raises(BadData, match="use --grpc"):
        requests_of(PLAIN, inputs)
    assert requests_of(replace(PLAIN, by_grpc=True), inputs)[0] == "signature"


@pytest.mark.parametrize("against", ["2", "m:2"])
def test_a_version_is_named_alone_or_with_its_model(against: str) -> None:
    place = place_of("127.0.0.1:8000", False, "m", "1")
    assert other_place(against, place).label == "m:2"


@pytest.mark.parametrize("document", [{}, [], None, {"inputs": None}, {"inputs": [{"name": "x"}]}, {"inputs": ["x"]}])
def test_another_server_is_not_taken_for_a_gateway(document: object, monkeypatch: pytest.MonkeyPatch) -> None:
    client = RestClient("127.0.0.1:1", 1.0)
    monkeypatch.setattr(client, "_call", lambda *_: InferReply(cast(dict[str, Any], document), "", ""))
    with pytest.raises(CallFailed, match="is it a gateway"):
        client.metadata("m", "")
