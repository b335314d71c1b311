"""What windows without and with traces say together, and the receiver of a measurement."""

import os
import socket
import threading
from contextlib import suppress

import numpy as np
import pytest

from loadtests.processes import process_time_s
from loadtests.receiver import ANSWER, serve
from loadtests.tracing import AGAIN, PLAIN, TRACED, Mark, Round, Seen, SpanCost, Start, see, summarise

COST = SpanCost(1000, 3.0, 1.0)


def rounds_of(rates: list[float], count: int = 12) -> list[Round]:
    """Rounds in which these are the parts of the rate that a window with traces has."""
    plain, again = Seen(1000.0, 40.0, 1.0), Seen(1020.0, 39.0, 1.0)
    parts = [rates[number % len(rates)] for number in range(count)]
    return [{PLAIN: plain, AGAIN: again, TRACED: Seen(1010.0 * part, 40.5 / part, 0.0)} for part in parts]


@pytest.mark.parametrize(
    ("rates", "count", "verdict"),
    [
        ([0.995, 0.99], 12, "yes"),
        ([0.96, 0.97], 12, "no"),
        ([0.9, 1.05], 12, "undecided"),
        ([0.999], 5, "undecided"),  # too few for an interval
    ],
)
def test_only_a_whole_interval_decides(rates: list[float], count: int, verdict: str) -> None:
    rounds = rounds_of(rates, count)
    assert summarise("json", [Start(rounds, rounds, COST)]).verdict == verdict


def test_windows_are_compared_with_those_of_their_round() -> None:
    rounds = rounds_of([0.98], 6)
    found = summarise("json", [Start(rounds, rounds, COST), Start(rounds, rounds, SpanCost(500, 5.0, 2.0))])
    assert found.rates[TRACED].estimate == pytest.approx(0.98)
    assert found.rates[AGAIN].estimate == pytest.approx(1.02)
    assert found.cpu[TRACED].estimate == pytest.approx(1 / 0.98)
    assert found.worker[AGAIN].estimate == pytest.approx(40 / 41)
    assert found.worker[TRACED].estimate == pytest.approx((40.5 / 0.98 + 1) / 40.5)
    assert found.control[TRACED].estimate == pytest.approx(39.5 / 40.5)
    assert found.spans == SpanCost(1500, 4.0, 1.5)


def test_a_window_counts_what_was_complete_in_it() -> None:
    answered_us = np.array([9, 10, 11, 15, 20, 21], np.int64)
    seen = see(answered_us, Mark(10.0, (1.0, 0.5)), Mark(20.0, (1.3, 0.6)))
    assert (seen.rate, seen.worker_us, seen.control_us) == pytest.approx((3e5, 1e5, 1e5 / 3))


def test_the_receiver_takes_requests_on_one_connection() -> None:
    def run(listener: socket.socket) -> None:
        with suppress(OSError):  # the listener is closed
            serve(listener)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, args=(listener,), daemon=True)
        thread.start()
        with socket.create_connection(listener.getsockname()) as client:
            for size in (0, 70_000):
                client.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
                assert client.recv(1 << 16) == ANSWER
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_the_clock_of_a_process_goes_on_with_its_work() -> None:
    before = process_time_s(os.getpid())
    sum(range(100_000))
    assert process_time_s(os.getpid()) > before > 0
    assert process_time_s(1 << 22) == 0  # above the greatest number of a process
