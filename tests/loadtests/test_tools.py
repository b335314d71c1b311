"""The load tests' own parts: the servers they compare with answer right, and their judgements find what is wrong."""

import argparse
import contextlib
import json
import os
import socket
import sys
import threading
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtests import page
from loadtests.callers import ConnectionLost, EndedCall, NoAnswer
from loadtests.codecs import BINARY, GRPC, IMAGE, JSON, ROWS, Call, Codec, ReferenceCalls, WrongAnswer
from loadtests.contenders import list_contenders
from loadtests.faults import Kill, find_miscounted, find_misplaced, find_slow
from loadtests.graphs import find_repository
from loadtests.h2load import Window
from loadtests.latencies import Latencies
from loadtests.measurements import Load, Measurement, Results, ServerFacts
from loadtests.models import MODELS
from loadtests.openloop import Misses, open_loop
from loadtests.processes import Server, run_server

TINY = MODELS["tiny"]
SERVERS = {
    "inline json": (["loadtests.ceiling", "tiny", "--codec", "json"], [JSON]),
    "batched json": (["loadtests.ceiling", "tiny", "--codec", "json", "--batched"], [JSON]),
    "inline binary": (["loadtests.ceiling", "tiny", "--codec", "binary"], [BINARY]),
    "batched binary": (["loadtests.ceiling", "tiny", "--codec", "binary", "--batched"], [BINARY]),
    "inline grpc": (["loadtests.ceiling", "tiny", "--codec", "grpc"], [GRPC]),
    "batched grpc": (["loadtests.ceiling", "tiny", "--codec", "grpc", "--batched"], [GRPC]),
    "fastapi": (["loadtests.peers.fastapi_app", "tiny"], [ROWS, IMAGE]),
}
KILL = Kill(at=10.0, rest_ports=frozenset({500}), grpc_ports=frozenset({600}), noticed_s=0.05, back_s=0.5)


@pytest.mark.parametrize("name", SERVERS)
def test_comparisons_answer_as_onnx_runtime(name: str) -> None:
    find_repository(TINY)
    module, codecs = SERVERS[name]
    cores = sorted(os.sched_getaffinity(0))
    with run_server([sys.executable, "-m", *module], cores) as server:
        for codec in codecs:
            ReferenceCalls(TINY).check(codec, server.addresses["http"])
            _every_open_loop_request_is_answered(codec, server, cores)


def _every_open_loop_request_is_answered(codec: Codec, server: Server, cores: list[int]) -> None:
    call = codec.write(TINY, TINY.rows(1))
    address = server.addresses["http"]
    window = open_loop(codec, call, address, rate=500, seconds=0.2, cores=cores[:1])
    assert window.errors == 0
    assert window.done == window.latencies.count > 50


def test_a_wrong_answer_is_found() -> None:
    find_repository(TINY)
    with pytest.raises(WrongAnswer, match="rows: label"):
        ReferenceCalls(TINY).verify(ROWS, 0, {}, b'{"label":[0],"probabilities":[0.5,0.5]}')


@pytest.mark.parametrize(
    ("counted", "wrong"),
    [
        ({"rest": 2, "grpc": 1}, 0),
        ({"rest": 3, "grpc": 1}, 0),
        ({"rest": 1, "grpc": 1}, 1),
        ({"rest": 4, "grpc": 2}, 2),
    ],
)
def test_counters_lie_between_successes_and_calls(counted: dict[str, int], wrong: int) -> None:
    ended = [_ended("rest"), _ended("rest"), _ended("rest", ConnectionLost()), _ended("grpc")]
    assert len(find_miscounted(ended, Counter(counted))) == wrong


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        ([("rest", ConnectionLost("gone"), 9.9, 10.1, 500)], ""),
        ([("rest", ConnectionLost("gone"), 9.9, 10.1, 0)], ""),
        ([("rest", ConnectionLost("gone"), 9.9, 10.1, 501)], "beside every kill"),
        ([("rest", ConnectionLost("gone"), 9.0, 9.9, 500)], "beside every kill"),
        ([("rest", ConnectionLost("gone"), 10.2, 10.3, 500)], "beside every kill"),
        ([("grpc", ConnectionLost("gone"), 9.9, 10.1, 0)], ""),
        ([("grpc", ConnectionLost("gone"), 9.9, 10.1, 0)] * 2, "2 gRPC calls failed on 1 connections"),
        ([("grpc", NoAnswer("late"), 9.9, 14.9, 0)], "a call hung"),
        ([("rest", WrongAnswer("503"), 9.9, 10.1, 500)], "503"),
    ],
)
def test_only_calls_in_the_dead_workers_calls_may_fail(
    ended: list[tuple[str, Exception, float, float, int]], fault: str
) -> None:
    found = find_misplaced(
        [EndedCall(name, began, end, failure, port) for name, failure, began, end, port in ended], [KILL]
    )
    assert len(found) == bool(fault)
    assert fault in "".join(found)


def test_capacity_must_be_back_in_time_and_readiness_must_have_said_so() -> None:
    unnoticed = Kill(10.0, frozenset(), frozenset(), None, 0.5)
    gone = Kill(10.0, frozenset(), frozenset(), 0.1, None)
    assert find_slow([KILL], 1.0) == []
    assert len(find_slow([KILL, unnoticed, gone], 1.0)) == 2
    assert len(find_slow([KILL], 0.4)) == 1


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that changes its speed between rounds does not change the ratio."""
    load = Load("32 connections", 1.0, connections=32)
    rates = {"inline json": (100.0, 400.0, 40.0), "penstock json": (80.0, 300.0, 30.0)}
    measured = [_measured(number, name, rate) for name, some in rates.items() for number, rate in enumerate(some)]
    row = Results(measured).row(
        "tiny", load, next(contender for contender in list_contenders(TINY) if contender.name == "penstock json")
    )
    assert row is not None
    assert row.to_inline == 0.75
    assert row.to_batched is None
    assert (row.rate, row.rate_min, row.rate_max) == (80.0, 30.0, 300.0)


def _ended(protocol: str, failure: Exception | None = None) -> EndedCall:
    return EndedCall(protocol, 9.9, 10.1, failure, 0)


def _measured(number: int, contender: str, rate: float) -> Measurement:
    window = Window(done=10, errors=0, rate=rate, latencies=Latencies(1.0, 1.0, 1.0, 10))
    return Measurement(number, "tiny", contender, "32 connections", window, 30.0, 0.0)


def test_open_loop_replaces_connections_and_charges_only_requests_that_were_on_them() -> None:
    """A server that closes after every answer costs no error; one that closes instead of answering, or refuses, costs
    each."""
    cores = sorted(os.sched_getaffinity(0))[:1]
    call = Call("/", b"x")
    ok, refused = (b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status for status in (200, 503))
    for answer, kind in ((ok, ""), (b"", "lost"), (refused, "refused")):
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            threading.Thread(target=_answer_and_close, args=(listener, answer), daemon=True).start()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            window = open_loop(JSON, call, address, rate=100, seconds=0.3, cores=cores)
            assert window.done > 10
            assert window.misses == (Misses(**{kind: window.done}) if kind else Misses())
            assert window.errors == window.misses.total


def _answer_and_close(listener: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_one_answer, args=(connection, answer), daemon=True).start()


def _one_answer(connection: socket.socket, answer: bytes) -> None:
    with connection:
        if connection.recv(65536):
            connection.sendall(answer)


def test_a_report_becomes_a_page(tmp_path: Path) -> None:
    load = Load("32 connections", 1.0, connections=32)
    measured = [_measured(0, name, rate) for name, rate in (("batched json", 100.0), ("penstock json", 80.0))]
    some = [contender for contender in list_contenders(TINY) if contender.name in ("batched json", "penstock json")]
    rows = [Results(measured).row("tiny", load, item) for item in some]
    report = {
        "at": "2026-11-21",
        "commit": "c",
        "machine": {"cpu": "x", "cores": 4, "kernel": "6", "server_cores": [0, 1], "client_cores": [2, 3]},
        "versions": {"python": "3"},
        "plan": {"rounds": 1, "loads": [asdict(load)]},
        "medians": [asdict(row) for row in rows if row is not None],
        "servers": [asdict(ServerFacts(0, "tiny", "penstock", 0.5, 1 << 20))],
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    page.main(argparse.Namespace(report=tmp_path / "report.json", docs=tmp_path))
    text = (tmp_path / "benchmarks-data.md").read_text()
    assert "| penstock json | 80 |" in text
    assert "| 0.80 |" in text
    chart = ElementTree.parse(tmp_path / "pictures" / "bench-tiny.svg").getroot()
    assert "80" in [item.text for item in chart.iter() if item.tag.endswith("text")]


def test_nothing_is_asked_at_a_rate_of_nothing() -> None:
    cores = sorted(os.sched_getaffinity(0))[:1]
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        window = open_loop(JSON, Call("/", b"", {}), address, rate=0, seconds=0.2, cores=cores)
    assert (window.done, window.errors) == (0, 0)
