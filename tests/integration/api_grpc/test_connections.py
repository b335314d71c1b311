"""How many connections there may be, and which of them go: those that say nothing, never those that work."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from penstock.api.grpc.http2 import connection, frames
from penstock.api.grpc.services import GrpcOptions
from tests.harness import PATIENCE_S, wait_until
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.raw import Raw
from tests.integration.api_grpc.requests import pair, slow
from tests.integration.api_grpc.worker import Worker

PAIR = pair(1, 1, 1).SerializeToString()
MOST = 4


@pytest.fixture
def few(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that allows few connections, and calls those idle that have no calls."""
    monkeypatch.setattr(connection, "IDLE_NS", 0)
    with workers.running(models, GrpcOptions(max_connections=MOST)) as running:
        yield running


def calls(raw: Raw) -> None:
    assert raw.answer(raw.call(PAIR)).status == 0


def test_silent_connections_are_evicted_first_and_then_the_oldest_idle_one(few: Worker) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(Raw(few.address))) for _ in range(2)]
        silent = [stack.enter_context(closing(Raw(few.address, greet=False))) for _ in range(2)]
        for raw in idle:
            calls(raw)
        calls(stack.enter_context(closing(Raw(few.address))))
        assert sum(_is_closed(raw) for raw in silent) == 1
        calls(stack.enter_context(closing(Raw(few.address))))
        assert all(_is_closed(raw) for raw in silent)
        calls(stack.enter_context(closing(Raw(few.address))))
        assert idle[0].until_closed() == 0  # a GOAWAY that names the last call that was taken
        last = [item.payload[:4] for item in idle[0].other if item.kind == frames.GOAWAY]
        assert last == [b"\0\0\0\x01"]
        calls(idle[1])


def _is_closed(raw: Raw) -> bool:
    """Whether the server has closed it by now."""
    raw.socket.settimeout(0.2)
    try:
        while True:
            if not raw.socket.recv(1000):
                return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_connections_that_never_sent_anything_are_closed_first(models: Path) -> None:
    with workers.running(models, GrpcOptions(max_connections=MOST)) as worker, ExitStack() as stack:
        working = stack.enter_context(closing(Raw(worker.address)))
        calls(working)
        silent = [stack.enter_context(closing(Raw(worker.address, greet=False))) for _ in range(3 * MOST)]
        calls(stack.enter_context(closing(Raw(worker.address))))
        assert sum(_is_closed(raw) for raw in silent) == 2 * MOST + 2
        calls(working)


def test_where_all_connections_are_busy_the_new_one_is_refused(few: Worker) -> None:
    with ExitStack() as stack:
        busy = [stack.enter_context(closing(Raw(few.address))) for _ in range(MOST)]
        numbers = [raw.call(slow().SerializeToString()) for raw in busy]
        wait_until(lambda: few.begun("slow") >= MOST, PATIENCE_S, "the calls")
        newcomer = stack.enter_context(closing(Raw(few.address)))
        newcomer.until_closed()
        assert newcomer.answers == {}
        assert [raw.answer(number).status for raw, number in zip(busy, numbers, strict=True)] == [0] * MOST
