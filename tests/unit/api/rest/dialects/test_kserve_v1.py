"""KServe's V1 protocol: rows in, predictions out, on the same way as V2."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.core.frames.terms import RowTerms
from penstock.core.limits import RequestLimits
from penstock.monitor.counters.totals import Totals
from penstock.serving.infer_call import InferCall
from penstock.serving.memory_budget import MemoryBudget
from tests.fuzz.targets import World
from tests.unit.api.rest.dialects.worlds import DialectClient

PREDICT = "/v1/models/row:predict"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(world: World) -> DialectClient:
    return DialectClient(world, "kserve_v1")


@pytest.mark.parametrize(
    ("body", "predictions"),
    [
        ({"instances": [[1, 2, 3]]}, [[3, 5, 7]]),
        ({"inputs": [[1, 2, 3], [4, 5, 6]]}, [[3, 5, 7], [9, 11, 13]]),
        ({"instances": [[0.5, None, 3]], "parameters": {"a": 1}}, [[2, None, 7]]),
        ({"instances": [{"x": [1, 2, 3]}]}, [[3, 5, 7]]),
        ({"instances": [{"x[0]": 1, "x[1]": 2, "x[2]": 3}]}, [[3, 5, 7]]),
        ({"inputs": {"x": [[1, 2, 3]]}}, [[3, 5, 7]]),
        ({"instances": [[1, 2, 3]] * 5000}, [[3, 5, 7]] * 5000),
    ],
)
def test_rows_of_every_form(client: DialectClient, body: Any, predictions: Any) -> None:
    for _ in range(2):  # the second head is known
        status, answer, fields = client.ask(PREDICT, body)
        assert (status, answer) == (200, {"predictions": predictions})
        assert (fields["penstock-model-version"], fields["penstock-route"]) == ("1", "stable")
        assert fields["x-request-id"]


def test_text_rows_are_answered(client: DialectClient) -> None:
    assert client.ask("/v1/models/words:predict", {"instances": [["a", "b"]]})[1] == {"predictions": [["a", "b"]]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[[1,2,3]]", "not a JSON object"),
        (b'{"instances": [[1,2,3]]', "not valid JSON"),
        ({"rows": [[1, 2, 3]]}, '"instances" or "inputs"'),
        ({"instances": 5}, '"instances" or "inputs"'),
        ({"instances": {"x": [[1, 2, 3]]}}, '"instances" or "inputs"'),
        ({"instances": [[1, 2, 3], [1, 2]]}, "row 1 has 2 values; expected 3"),
        ({"instances": [[1, 2, "c"]]}, "row 0"),
        ({"instances": []}, "no rows"),
    ],
)
def test_what_does_not_fit_is_refused(client: DialectClient, body: Any, message: str) -> None:
    status, answer, fields = client.ask(PREDICT, body)
    assert status == 400
    assert message in answer["error"]
    assert fields["penstock-model-version"] == "1"


def test_unknown_models_are_refused(client: DialectClient) -> None:
    assert client.ask("/v1/models/no:predict", {"instances": [[1]]})[:2] == (
        404,
        {"error": "Request for unknown model 'no'"},
    )
    assert client.ask("/v1/models/no")[0] == 404


def test_models_and_their_readiness(client: DialectClient) -> None:
    assert client.ask("/v1/models")[1] == {"models": ["row", "words"]}
    assert client.ask("/")[:2] == (200, {"status": "alive"})
    assert client.ask("/v1/models/row")[:2] == (200, {"name": "row", "ready": True})


def test_bodies_may_be_compressed_both_ways(client: DialectClient) -> None:
    body = json.dumps({"instances": [[1, 2, 3]] * 2000}).encode()
    fields = {"content-encoding": "gzip"}
    assert client.ask(PREDICT, gzip.compress(body), fields=fields)[1] == {"predictions": [[3, 5, 7]] * 2000}
    status, _, found = client.ask(PREDICT, gzip.compress(b'{"instances": [[1, 2]]}'), fields=fields)
    assert status == 400
    assert "content-encoding" not in found


def test_fields_of_every_request_count(client: DialectClient) -> None:
    rows = {"instances": [[1, 2, 3]]}
    _, _, fields = client.ask(PREDICT, rows, fields={"x-request-id": "mine", "penstock-timing": "1"})
    assert fields["x-request-id"] == "mine"
    assert "server-timing" in fields
    assert client.ask(PREDICT, rows, fields={"penstock-timeout-ms": "x"})[0] == 400
    assert client.ask(PREDICT, rows, fields={"penstock-timeout-ms": "0"})[0] == 504
    assert client.ask(PREDICT, rows, fields={"penstock-class": "odd"})[0] == 400


def test_bodies_over_a_limit_are_refused(client: DialectClient, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"instances": [[1.25, None, 3.75]] * 2000}
    with monkeypatch.context() as patch:
        patch.setattr(world.plane, "limits", RequestLimits(max_json_bytes=10_000))
        status, answer, _ = client.ask(PREDICT, body)
        assert (status, "limits.max_json_bytes" in answer["error"]) == (413, True)
    with monkeypatch.context() as patch:
        patch.setattr(world.plane, "memory", MemoryBudget(200_000))
        status, answer, _ = client.ask(PREDICT, body)
        assert (status, "no memory left to decode" in answer["error"]) == (503, True)
        compressed = client.ask(PREDICT, gzip.compress(json.dumps(body).encode()), fields={"content-encoding": "gzip"})
        assert compressed[0] == 503
    with monkeypatch.context() as patch:
        patch.setattr(world.plane, "limits", RequestLimits(max_output_bytes=100))
        assert client.ask(PREDICT, {"instances": [[1, 2, 3]] * 20})[0] == 413


def test_predictions_are_counted_as_those_of_rest(client: DialectClient, world: World) -> None:
    def counted(outcome: str) -> int:
        counts = Totals.of([world._slot], 1).requests()
        return sum(found[3] for found in counts if found[:3] == ("stable", "rest", outcome))

    before = counted("ok"), counted("invalid")
    client.ask(PREDICT, {"instances": [[1, 2, 3]]})
    client.ask(PREDICT, {"instances": [[1, 2]]})
    assert (counted("ok"), counted("invalid")) == (before[0] + 1, before[1] + 1)


class SeenCalls:
    """Keeps the calls that are offered to the monitor."""

    def __init__(self) -> None:
        self.calls: list[InferCall] = []

    def offer(self, call: InferCall) -> None:
        """Keep a call."""
        self.calls.append(call)

    def publish_baseline(self) -> None:
        """There is none."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def test_rows_follow_what_the_version_says_and_the_monitor_learns_of_defaults(
    client: DialectClient, world: World
) -> None:
    loaded, seen = world.plane.route(("row", ""), {})[0], SeenCalls()
    terms, sampler = loaded.row_terms, loaded.sampler
    loaded.set_row_terms(RowTerms(("a", "b", "c"), {"b": 2}))
    loaded.sampler = seen
    try:
        rows = [{"a": 1, "b": 5, "c": 3}, {"c": 3, "a": 1}]
        assert client.ask(PREDICT, {"instances": rows})[1] == {"predictions": [[3, 11, 7], [3, 5, 7]]}
        assert client.ask(PREDICT, {"instances": [{"a": 1}]})[0] == 400
    finally:
        loaded.sampler = sampler
        loaded.set_row_terms(terms)
    [column] = seen.calls[0].defaulted
    assert (column.name, column.tensor, column.index, column.rows.tolist()) == ("b", "x", 1, [1])
