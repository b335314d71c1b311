"""Many callers at once: everybody gets their own answer, queues are bounded, and waiting ends with the deadline."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conformance import oracle
from tests.conformance.mistakes import SAFE
from tests.conformance.wire import Ask, Input, Refused, RestJson, Transport
from tests.harness import PATIENCE_S, Server, wait_until

ONE = Input.of("x", "FP32", [1])


def outcomes(transport: Transport, asks: list[Ask]) -> list[int]:
    """Ask everything at once; how each ended: 200 or the code of the refusal."""

    def one(ask: Ask) -> int:
        try:
            transport.infer(ask)
        except Refused as refusal:
            return refusal.code
        return 200

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
    with ThreadPoolExecutor(16) as pool:
        slow = [pool.submit(transport.infer, Ask("slow", [ONE])) for _ in range(16)]
        wait_until(lambda: sum(item.done() for item in slow) >= 1, PATIENCE_S, "the first of them")
        for _ in range(5):
            transport.infer(SAFE)
        assert not all(item.done() for item in slow)
        for item in slow:
            assert item.result().model == "slow"


def test_a_full_queue_rejects_callers(transport: Transport) -> None:
    ended = Counter(outcomes(transport, [Ask("narrow", [ONE])] * 40))
    assert set(ended) == {200, 429}, ended
    transport.infer(Ask("narrow", [ONE]))


def test_a_rejected_caller_learns_when_to_retry(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda _: server.rest("POST", "/v2/models/narrow/infer", body), range(40)))
    refused = [reply for reply in replies if reply.status == 429]
    assert refused
    for reply in refused:
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.error()


def test_waiting_ends_with_the_deadline(transport: Transport) -> None:
    codes: set[int] = set()
    for timeout_us in (900_000, 2_700_000, 8_100_000):  # on a busy machine the first run alone can take a second
        asks = [Ask("slow", [ONE], parameters={"timeout": timeout_us})] * 16
        codes = set(outcomes(transport, asks))
        assert codes <= {200, 429, 504}
        if 200 in codes:
            break
    assert 200 in codes
    assert codes & {429, 504}  # rejected at once, or at the deadline


def test_waiting_ends_with_the_configured_time(transport: Transport) -> None:
    codes: set[int] = set()
    for _ in range(5):  # on a busy machine the first of them too may wait for too long
        codes |= set(outcomes(transport, [Ask("hasty", [ONE])] * 8))
        if 200 in codes:
            break
    assert codes == {200, 504}
