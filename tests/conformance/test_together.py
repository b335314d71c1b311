"""Many callers at once: everybody gets their own answer, queues are bounded, and waiting ends with the deadline."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conformance import oracle
from tests.conformance.mistakes import SAFE
from tests.conformance.wire import Ask, Input, Refused, RestJson, Transport
from tests.harness import Server

ONE = Input.of("x", "FP32", [1])


def outcomes(transport: Transport, asks: list[Ask]) -> list[tuple[int, float]]:
    """Ask everything at once; how each ended (200 or the refusal's code), and after how many seconds."""

    def one(ask: Ask) -> tuple[int, float]:
        began = time.monotonic()
        try:
            transport.infer(ask)
        except Refused as refusal:
            return refusal.code, time.monotonic() - began
        return 200, time.monotonic() - began

    with ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(one, asks))


@pytest.mark.parametrize("model", ["logistic", "mlp"])
def test_everybody_gets_their_own_answer(transport: Transport, zoo_folder: Path, model: str) -> None:
    width = {"logistic": 30, "mlp": 64}[model]
    rng = np.random.default_rng(1)
    asks = []
    for number in range(64):
        rows = rng.standard_normal((1 + number % 3, width)).astype(np.float32)
        asks.append(Ask(model, [Input("x", "FP32", rows.shape, rows)], id=str(number)))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(transport.infer, asks))
    for ask, answer in zip(asks, answers, strict=True):
        assert answer.id == ask.id
        oracle.assert_same(answer, oracle.run(zoo_folder / f"{model}.onnx", ask.inputs))


def test_slow_models_do_not_hold_up_quick_ones(server: Server) -> None:
    transport = RestJson(server)
    with ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(transport.infer, Ask("slow", [ONE])) for _ in range(3)]
        time.sleep(0.05)
        began = time.monotonic()
        for _ in range(5):
            transport.infer(SAFE)
        spent = time.monotonic() - began
        assert not all(one.done() for one in slow)
        for one in slow:
            assert one.result().model == "slow"
    assert spent < 0.5


def test_a_full_queue_turns_callers_away(transport: Transport) -> None:
    ended = Counter(code for code, _ in outcomes(transport, [Ask("narrow", [ONE])] * 12))
    assert set(ended) == {200, 429}, ended
    assert 1 <= ended[200] <= 4
    transport.infer(Ask("narrow", [ONE]))


def test_who_is_turned_away_is_told_when_to_come_back(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: server.rest("POST", "/v2/models/narrow/infer", body), range(12)))
    refused = [reply for reply in replies if reply.status == 429]
    assert refused
    for reply in refused:
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.error()


def test_waiting_ends_with_the_deadline(transport: Transport) -> None:
    asks = [Ask("slow", [ONE], parameters={"timeout": 900_000})] * 16
    ended = outcomes(transport, asks)
    codes = {code for code, _ in ended}
    assert 200 in codes
    assert codes & {429, 504}  # told at once that it would be too late, or when it was
    assert codes <= {200, 429, 504}
    assert max(seconds for _, seconds in ended) < 2


def test_waiting_ends_with_the_configured_time(transport: Transport) -> None:
    ended = outcomes(transport, [Ask("hasty", [ONE])] * 8)
    assert {code for code, _ in ended} == {200, 504}
