"""What a replay finds: ends by name, differences beyond noise, samples, and what the reports say of it."""

import json
from collections import Counter
from xml.etree import ElementTree

import pytest

from penstock.core.errors import InvalidInput
from penstock.loadtest.samples import INTERRUPTED
from penstock.loadtest.wire import LOST, TIMED_OUT
from penstock.monitor.capture import CapturedRequest, packed_request
from penstock.monitor.capture_parts import ReadCounts
from penstock.replay.findings import SAMPLES, Findings
from penstock.replay.html import to_html
from penstock.replay.junit import to_junit
from penstock.replay.pace import ASAP
from penstock.replay.report import ReplayResult, ReplaySetup, to_document
from penstock.replay.requests import Answer
from penstock.replay.selection import select_requests
from penstock.replay.window import UNREADABLE, ReplayEnd, ReplayRequest
from tests.unit.loadtest.junit_schema import faults_of
from tests.unit.replay.records import captured, tensor


class Texts:
    """A codec whose answers are JSON of scores; "" is not an answer."""

    def encode(self, record: CapturedRequest) -> bytes:
        return b""

    def decode(self, answer: bytes) -> Answer:
        if not answer:
            raise InvalidInput("the answer is not one of the protocol")
        return Answer([tensor("y", [json.loads(answer)])], "2")


def findings(*pairs: tuple[object, ...], compares: bool = True, by_grpc: bool = False) -> Findings:
    """What is found of requests with the answer [0.1, 0.9]; each of a pair is an answer, or a status."""
    found = Findings(Texts(), compares, by_grpc)
    for number, pair in enumerate(pairs):
        for second, given in enumerate(pair[: 1 + compares]):
            ask = ReplayRequest(number, captured(f"r{number}", float(number)), bool(second))
            good = 0 if by_grpc else 200
            end = (given, b"") if isinstance(given, int) else (good, json.dumps(given).encode())
            found.note(ReplayEnd(ask, end[0], float(number), number + 0.5, end[1]))
    return found


def result_of(found: Findings, limit: float | None = 0.0, interrupted: bool = False) -> ReplayResult:
    setup = ReplaySetup("1.0", "2026-01-02T03:04:05+00:00", ["m:1"], "m:2", "127.0.0.1:1", "rest", ASAP, 4, 10.0, limit)
    return ReplayResult(setup, found, ReadCounts(10, 10), interrupted)


SAME, OTHER, NEAR = [0.1, 0.9], [0.9, 0.1], [0.1000001, 0.9]


def test_only_what_differs_from_the_capture_and_not_from_itself_counts() -> None:
    found = findings((SAME, SAME), (NEAR, SAME), (OTHER, OTHER), (OTHER, SAME), (SAME, OTHER))
    assert (found.pairs.compared, found.pairs.differ, found.pairs.noisy, found.pairs.both) == (5, 2, 2, 1)
    output = found.outputs["y"]
    assert (output.flips, output.pairs.differ, output.pairs.noisy) == (2, 2, 2)
    assert output.max_abs == pytest.approx(0.8)
    assert found.versions == {"2": 10}
    assert result_of(findings((SAME, SAME))).outcome == "pass"
    assert result_of(findings((OTHER, OTHER), (SAME, SAME))).outcome == "breach"
    assert result_of(findings((OTHER, OTHER), (SAME, SAME)), 0.5).outcome == "pass"


def test_an_error_of_the_version_is_a_difference_and_a_refusal_is_not() -> None:
    found = findings((400, 400), (500, SAME), (SAME, SAME), (429, SAME), (SAME, LOST), (TIMED_OUT, TIMED_OUT))
    assert (found.pairs.compared, found.pairs.differ, found.pairs.noisy) == (3, 2, 1)
    assert (found.errors, found.uncompared) == (2, 3)
    assert (found.answered, found.unanswered) == (8, 4)
    assert found.ended == {"answered": 5, "HTTP 400": 2, "HTTP 500": 1, "HTTP 429": 1, "connection lost": 1,
                           "timed out": 2}  # fmt: skip
    assert result_of(found).outcome == "invalid"
    assert "4 of 12 requests had no answer" in result_of(found).problem
    assert found.worst()[0].document["error"] in {"HTTP 400", "HTTP 500"}
    by_grpc = findings((3, 3), (8, 8), by_grpc=True)
    assert (by_grpc.pairs.differ, by_grpc.uncompared) == (1, 1)
    assert by_grpc.ended == {"INVALID_ARGUMENT": 2, "RESOURCE_EXHAUSTED": 2}


def test_what_cannot_be_sent_read_or_compared_is_counted() -> None:
    found = findings((UNREADABLE, UNREADABLE), (INTERRUPTED, INTERRUPTED), (200, 200))
    assert found.skipped == {"cannot be encoded": 1, "interrupted": 1}
    assert found.ended == {"the answer is not one of the protocol": 2}
    masked = captured("m", 1.0, masked=["outputs"])
    for second in (False, True):
        found.note(ReplayEnd(ReplayRequest(9, masked, second), 200, 1.0, 2.0, json.dumps(OTHER).encode()))
    assert (found.uncompared, found.pairs.compared) == (2, 0)
    assert "no captured request could be sent" in result_of(findings((UNREADABLE, UNREADABLE))).problem
    only = Findings(Texts(), True, False)
    for second in (False, True):
        only.note(ReplayEnd(ReplayRequest(9, masked, second), 200, 1.0, 2.0, json.dumps(OTHER).encode()))
    assert "no answer could be compared" in result_of(only).problem
    assert result_of(found, interrupted=True).outcome == "interrupted"


def test_without_comparison_each_request_is_asked_once() -> None:
    found = findings((OTHER,), (SAME,), compares=False)
    assert (found.requests, found.pairs.compared, result_of(found, None).outcome) == (2, 0, "pass")
    assert to_document(result_of(found, None))["comparison"] is None


def test_the_worst_are_kept_and_no_more() -> None:
    found = findings(*(([0.9 + number / 100, 0.1], [0.9 + number / 100, 0.1]) for number in range(SAMPLES + 5)))
    worst = found.worst()
    assert len(worst) == SAMPLES
    assert worst[0].document["id"] == f"r{SAMPLES + 4}"
    assert worst[0].badness >= worst[-1].badness


def test_requests_with_masked_or_missing_inputs_are_not_sent() -> None:
    skipped: Counter[str] = Counter()
    records = [captured("a", 1.0), captured("b", 2.0, masked=["inputs"]), packed_request({"id": "c", "at": 3.0}, [])]
    assert [item.id for item in select_requests(records, ["x"], skipped)] == ["a"]
    assert skipped == {"inputs are masked": 1, "inputs are missing": 1}


def test_a_request_of_overlapping_captures_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers choose ids, so the time belongs to a request too; requests without an id are never the same."""
    skipped: Counter[str] = Counter()
    records = [captured(*item) for item in [("a", 1.0), ("a", 1.0), ("b", 1.0), ("a", 2.0), ("", 3.0), ("", 3.0)]]
    sent = [(item.id, item.head["at"]) for item in select_requests(records, ["x"], skipped)]
    assert sent == [("a", 1.0), ("b", 1.0), ("a", 2.0), ("", 3.0), ("", 3.0)]
    assert skipped == {"it is in several files": 1}
    monkeypatch.setattr("penstock.replay.selection.REMEMBERED", 1)
    far = [captured("a", 1.0), captured("b", 1.5), captured("a", 1.0)]
    assert len(list(select_requests(far, ["x"], skipped))) == 3


def test_the_reports_hold_what_was_found() -> None:
    result = result_of(findings((OTHER, OTHER), (SAME, SAME), (SAME, SAME), (400, 400)))
    document = json.loads(json.dumps(to_document(result), allow_nan=False))
    assert (document["format"], document["outcome"], document["speed"]) == ("penstock-replay/1", "breach", "asap")
    comparison = document["comparison"]
    assert (comparison["compared"], comparison["differ"], comparison["share_that_counts"]) == (4, 2, 0.5)
    assert comparison["outputs"]["y"]["flips"] == 1
    assert document["series"]["steps"][0] == [0.0, 2, 0, 1, 0]
    assert document["samples"][1]["answer"][0]["data"] == pytest.approx(OTHER)
    suite = ElementTree.fromstring(to_junit(result))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    page = to_html(result)
    assert page.count("<svg") == 4 and "2 of 4 requests differ from the capture (1 by an error)" in page
    assert "<script" not in page


def test_an_invalid_result_is_an_error_of_the_suite() -> None:
    report = to_junit(result_of(findings((LOST, LOST))))
    assert faults_of(report) == []
    suite = ElementTree.fromstring(report)[0]
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "1", "1")
    assert 'class="invalid"' in to_html(result_of(findings((LOST, LOST))))
