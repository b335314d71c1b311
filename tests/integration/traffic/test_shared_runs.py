"""Whose requests share runs: what people export, asked by many at once, with configurations that ask for batching."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import pytest

from penstock.registry.admission.row_proof import RULES
from tests import zoo
from tests.harness import PATIENCE_S, Server, run_command, running, wait_until
from tests.unit.engine.row_independence.cases import Case

CALLERS, CALLS = 8, 12
WAITS = "dynamic_batching { max_queue_delay_microseconds: 20000 }\n"
CLAIM = 'parameters { key: "independent_rows" value: { string_value: "true" } }\n'

DETECTIONS = """(float[N, 3] x) => (float[M, 1] y)
<float[3] bias = {1, 0, 0}, float least = {0.5}, int64[1] axes = {1}> {
    sum = Add(x, bias) large = Greater(sum, least) places = NonZero(large) at = Transpose(places)
    found = GatherND(x, at) y = Unsqueeze(found, axes)
}"""
RESCALED = """(float[N, 3] x) => (float[N, 3] y) <float one = {1}, float most = {255}> {
    top = ReduceMax<keepdims = 0>(x) large = Greater(top, one) less = Div(x, most) y = Where(large, less, x)
}"""
QUANTISED = """(float[N, 3] x) => (float[N, 2] y) <uint8[3, 2] w = {1, 2, 3, 4, 5, 6}> {
    q, scale, zero = DynamicQuantizeLinear(x) sums = MatMulInteger(q, w, zero) f = Cast<to = 1>(sums) y = Mul(f, scale)
}"""
CHOSEN = "(float[N, 3] x) => (float[N, 2] y) <bool[3] c = {1, 0, 1}> { y = Compress<axis = 1>(x, c) }"
LINEAR = "(float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }"

BEYOND_TRIALS = """(float[N, 3] x) => (float[N, 3] y) <float many = {1e9}> {
    top = ReduceMax<keepdims = 0>(x) large = Greater(top, many) less = Div(x, many) y = Where(large, less, x)
}"""

MODELS = {"detections": DETECTIONS, "rescaled": RESCALED, "quantised": QUANTISED, "chosen": CHOSEN, "linear": LINEAR}
DEPENDENT = ["detections", "rescaled", "quantised"]
STATED = 'max_batch_size: 16 input { name: "x" data_type: TYPE_FP32 dims: 3 }\n' + WAITS


def built(graph: str) -> onnx.ModelProto:
    return Case("", graph, 17).model()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    for name, graph in MODELS.items():
        zoo.place(root, name, {"1": built(graph)})
        zoo.place(root, f"{name}_waits", {"1": built(graph)}, WAITS)
        zoo.place(root, f"{name}_stated", {"1": built(graph)}, STATED)
        zoo.place(root, f"{name}_claimed", {"1": built(graph)}, WAITS + CLAIM)
    zoo.place(root, "beyond_trials", {"1": built(BEYOND_TRIALS)}, CLAIM)
    with running(root, tmp_path_factory.mktemp("server")) as started:
        yield started


def row(number: int) -> list[float]:
    """A row for each caller: small numbers beside large ones, some of them detections and some not."""
    return [0.25 * number, 300.0, -9.0] if number % 2 else [-9.0, 0.125 * number, -9.0]


def asked(server: Server, model: str, values: Sequence[float]) -> Any:
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": list(values)}]}
    reply = server.rest("POST", f"/v2/models/{model}/infer", body)
    assert reply.status == 200, reply
    return reply.json()["outputs"][0]["data"]


def together(server: Server, model: str) -> list[tuple[int, Any]]:
    """What callers are answered who all ask at once, again and again."""
    reported: list[tuple[int, Any]] = []

    def ask(number: int) -> None:
        reported.extend((number, asked(server, model, row(number))) for _ in range(CALLS))

    callers = [threading.Thread(target=ask, args=[number]) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return reported


def counts(server: Server, model: str) -> tuple[int, int]:
    (found,) = server.rest("GET", f"/v2/models/{model}/stats").json()["model_stats"]
    return found["inference_count"], found["execution_count"]


def batching(server: Server, model: str) -> str:
    text: str = server.rest("GET", f"/v2/models/{model}/config").json()["parameters"]["batching"]["string_value"]
    return text


@pytest.mark.parametrize("kind", ["waits", "stated", "claimed"])
@pytest.mark.parametrize("name", DEPENDENT)
def test_each_caller_gets_its_own_rows_back_from_a_shared_run(server: Server, name: str, kind: str) -> None:
    model = f"{name}_{kind}"
    alone = {number: asked(server, model, row(number)) for number in range(CALLERS)}
    reported = together(server, model)
    assert len(reported) == CALLERS * CALLS
    assert [(number, answer) for number, answer in reported if answer != pytest.approx(alone[number], rel=1e-5)] == []
    inferences, executions = counts(server, model)
    assert inferences == executions


@pytest.mark.parametrize("model", ["linear_waits", "linear_stated", "chosen_claimed"])
def test_rows_that_are_independent_share_runs(server: Server, model: str) -> None:
    alone = {number: asked(server, model, row(number)) for number in range(CALLERS)}
    assert [item for item in together(server, model) if item[1] != pytest.approx(alone[item[0]], rel=1e-4)] == []
    inferences, executions = counts(server, model)
    assert executions < inferences
    assert batching(server, model).startswith("requests share runs: ")
    assert "dynamic_batching" in server.rest("GET", f"/v2/models/{model}/config").json()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("linear", "requests share runs: its graph proves that rows are independent, and a trial agreed"),
        ("chosen_claimed", "requests share runs: its configuration says that rows are independent, and a trial agreed"),
        (
            "chosen_waits",
            "every request runs alone: operator Compress has a result whose shape depends on the data; if",
        ),
        (
            "detections_waits",
            "every request runs alone: operator NonZero has a result whose shape depends on the data; ",
        ),
        ("rescaled_stated", "every request runs alone: operator ReduceMax reduces over the rows (axis 0); if its rows"),
        ("quantised", "every request runs alone: operator DynamicQuantizeLinear quantises by the range of all rows; "),
        (
            "detections_claimed",
            "every request runs alone: an output need not have one row for each row of the inputs: ",
        ),
        ("rescaled_claimed", "every request runs alone: in a trial rows got different answers together than alone"),
    ],
)
def test_the_configuration_says_whether_requests_share_runs_and_why(server: Server, model: str, reason: str) -> None:
    assert batching(server, model).startswith(reason)


def test_an_owner_whose_batching_is_refused_learns_why_and_what_to_do(server: Server) -> None:
    metadata = server.rest("GET", "/v2/models/rescaled_waits").json()
    assert metadata["properties"] == {"batching": batching(server, "rescaled_waits")}
    assert (
        'parameters { key: "independent_rows" value: { string_value: "true" } }' in metadata["properties"]["batching"]
    )
    line = "model rescaled_waits version 1 asks for batching, but every request runs alone: operator ReduceMax"
    assert line in server.log_text()
    assert "(node 'top')" in server.log_text()
    for content in ("rescaled", "linear_waits"):  # who did not ask, and who got it
        assert "properties" not in server.rest("GET", f"/v2/models/{content}").json()


def test_a_description_can_be_stated_again(server: Server) -> None:
    config = server.rest("GET", "/v2/models/chosen_waits/config").json()
    config["parameters"]["independent_rows"] = {"string_value": "true"}
    body = {"parameters": {"config": json.dumps(config)}}
    assert server.rest("POST", "/v2/repository/models/chosen_waits/load", body).status == 200
    assert batching(server, "chosen_waits").startswith("requests share runs: its configuration says")


def test_the_command_line_shows_the_proof(server: Server, tmp_path: Path) -> None:
    def shown(model: str, *options: str) -> str:
        return run_command("models", "show", f"{model}:1", "--url", server.ops, *options, folder=tmp_path).stdout

    assert "independent_rows: proven from the graph" in shown("linear")
    reason = "operator ReduceMax reduces over the rows (axis 0)"
    assert f"independent_rows: not proven: {reason} (node top)" in shown("rescaled")
    proof = json.loads(shown("rescaled", "--json"))["admission"]["independent_rows"]
    said = {"proven": False, "reason": reason, "operator": "ReduceMax", "node": "top", "rows_vary": False}
    assert proof == {"rules": RULES, **said}


def burst(connection: socket.socket, answers: BinaryIO, model: str) -> None:
    """Requests that come in one moment, of which some have numbers that the model looks at."""
    for number in range(CALLERS):
        values = [5e9 if number % 2 else 1.0, 2.0, 3.0]
        body = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": values}]}).encode()
        head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
    for _ in range(CALLERS):
        assert answers.readline().startswith(b"HTTP/1.1 200")
        length = 0
        while (line := answers.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        answers.read(length)


def test_a_shared_run_that_was_wrong_is_found_sooner_or_later_and_ends_sharing(server: Server) -> None:
    model = "beyond_trials"
    assert batching(server, model).startswith("requests share runs: its configuration says")
    host, _, port = server.http.rpartition(":")
    with socket.create_connection((host, int(port)), 20) as connection, connection.makefile("rb") as answers:
        for number in range(30_000):
            burst(connection, answers, model)
            if not number % 200 and batching(server, model).startswith("every request runs alone"):
                break
    assert "rows got different answers together than alone, in a repeated run" in batching(server, model)
    assert asked(server, model, [1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert f"ERROR worker-0 penstock.serving: model {model} version 1: every request runs alone" in server.log_text()
    metric = f'penstock_joint_run_mismatches_total{{model="{model}",version="1"}} 1.0'
    wait_until(lambda: metric in server.admin("GET", "/metrics").body.decode(), PATIENCE_S, metric)

    def kinds() -> list[str]:
        reported = server.admin("GET", f"/admin/v1/events?model={model}").json()["events"]
        return [event["type"] for event in reported]

    wait_until(lambda: "io.penstock.joint_run.mismatched.v1" in kinds(), PATIENCE_S, "the event")
    for verb in ("unload", "load"):
        assert server.rest("POST", f"/v2/repository/models/{model}/{verb}", {}).status == 200
    assert batching(server, model).startswith("requests share runs: its configuration says")
