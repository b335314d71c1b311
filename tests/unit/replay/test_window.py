"""The window of a replay under a virtual clock: its rate, what is late, what is held, and what is asked twice."""

from collections.abc import Iterator

import pytest

from penstock.core.errors import InvalidInput
from penstock.loadtest.wire import LOST, UNSENT
from penstock.monitor.capture import CapturedRequest
from penstock.replay.pace import ASAP, Pace
from penstock.replay.window import UNREADABLE, ReplayEnd, ReplayWindow
from tests.unit.replay.records import captured


def encode(record: CapturedRequest) -> bytes:
    if record.id == "bad":
        raise InvalidInput("no form for this")
    return record.id.encode()


def window_of(records: Iterator[CapturedRequest], speed: float, times: int = 1) -> tuple[ReplayWindow, list[ReplayEnd]]:
    ends: list[ReplayEnd] = []
    return ReplayWindow(records, Pace(speed), times, encode, ends.append), ends


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_requests_go_out_at_the_scaled_rate_under_a_virtual_clock(speed: float) -> None:
    """100 requests a second were captured; in no tenth of a second more or fewer are sent than that, scaled."""
    window, ends = window_of((captured(str(number), 1000 + number / 100) for number in range(500)), speed)
    now, sent = 0.0, list[float]()
    while not window.is_complete:
        now += window.until_due(now)  # as the loop sleeps
        assert window.is_due(now)
        number = window.note_sent(now, 0.0)
        assert window[number] == str(number).encode()
        window.note_answer(number, now + 0.001, 200, b"")
        sent.append(now)
    assert sent == [pytest.approx(number / 100 / speed, abs=1e-6) for number in range(500)]
    per_tenth = [sum(begin <= at < begin + 0.1 for at in sent) for begin in (0.0, 0.35, 0.7)]
    assert all(abs(count - 10 * speed) <= 1 for count in per_tenth)
    assert (window.finished, window.failed, len(ends)) == (500, 0, 500)


def test_as_fast_as_possible_holds_only_what_is_under_way() -> None:
    pulled = []

    def records() -> Iterator[CapturedRequest]:
        for number in range(1_000_000):
            pulled.append(number)
            yield captured(str(number), float(number))

    window, ends = window_of(records(), ASAP)
    numbers = [window.note_sent(5.0, 0.0) for _ in range(4)]
    assert window.is_due(5.0) and len(pulled) == 5
    window.give_up(1e9, 1.0, UNSENT)  # nothing is late without a pace
    window.note_answer(numbers[2], 5.5, 200, b"answer")
    assert (ends[0].due, ends[0].ended, ends[0].answer, ends[0].request.record.id) == (5.0, 5.5, b"answer", "2")
    with pytest.raises(KeyError):
        window[numbers[2]]
    assert window.waited(numbers[0], 6.0) == 1.0
    window.stop(6.0)
    window.note_failure(numbers[0], LOST)
    assert (window.is_stopped, window.is_due(9.0), window.until_due(9.0)) == (True, False, float("inf"))
    assert not window.is_complete
    for number in (numbers[1], numbers[3]):
        window.note_answer(number, 7.0, 429, b"")
    assert (window.is_complete, window.finished, window.failed) == (True, 4, 3)


def test_late_requests_are_dropped_and_counted() -> None:
    window, ends = window_of((captured(str(number), float(number)) for number in range(10)), 1.0)
    window.give_up(4.5, 2.0, UNSENT)
    assert [(end.request.number, end.outcome) for end in ends] == [(0, UNSENT), (1, UNSENT), (2, UNSENT)]
    assert window.until_due(4.5) == -1.5


def test_each_request_is_asked_twice_in_turn_and_encoded_once() -> None:
    encoded = []

    def counted(record: CapturedRequest) -> bytes:
        encoded.append(record.id)
        return encode(record)

    records = iter([captured("a", 1.0), captured("bad", 1.5), captured("b", 2.0)])
    ends: list[ReplayEnd] = []
    window = ReplayWindow(records, Pace(1.0), 2, counted, ends.append)
    asked = []
    while not window.is_complete:
        number = window.note_sent(1.0, 0.0)
        asked.append(window[number])
        window.note_answer(number, 1.0, 0, b"")
    assert asked == [b"a", b"a", b"b", b"b"]
    assert [(end.request.number, end.request.is_repeat) for end in ends if end.outcome == 0] == [
        (0, False), (0, True), (2, False), (2, True),
    ]  # fmt: skip
    assert [end.outcome for end in ends].count(UNREADABLE) == 2
    assert encoded.count("a") == encoded.count("b") == 1
    with pytest.raises(LookupError):
        window.note_sent(1.0, 0.0)
