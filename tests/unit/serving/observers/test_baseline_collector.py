"""Rows of a version without a reference: enough of them, of many requests and clients, over a time."""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.desired import LearnSpec
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, RowValues, input_columns, output_columns
from penstock.serving.infer_call import InferCall
from penstock.serving.observers.baseline_collector import MAX_GATHERED_BYTES, MISSING, BaselineCollector
from tests.unit.serving.stubs import served

Learned = list[tuple[Any, Any, Any, int]]


class Clock:
    """Seconds, moved by hand, and what is to be called later."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.waiting.append((self.now + seconds, call))

    def move(self, seconds: float) -> None:
        self.now += seconds
        due = [call for at, call in self.waiting if at <= self.now]
        self.waiting = [item for item in self.waiting if item[0] > self.now]
        for call in due:
            call()


def collector(wanted: LearnSpec, learned: Learned, width: int = 2, clock: Clock | None = None) -> BaselineCollector:
    inputs, outputs = [TensorSpec("x", "FP32", (-1, width))], [TensorSpec("p", "FP32", (-1, 2))]
    columns = input_columns(inputs, True, []), output_columns(outputs, True)
    clock = clock or Clock()
    return BaselineCollector(columns, wanted, lambda *found: learned.append(found), clock, clock.later)


def call(rows: int, client: int = 1, width: int = 2, outputs: int | None = None, value: float = 1.0) -> InferCall:
    """A request whose rows hold a value, and its answer."""
    probabilities = np.tile(np.array([[0.25, 0.75]], np.float32), (rows if outputs is None else outputs, 1))
    x = np.full((rows, width), value, np.float32)
    return served([Tensor("x", "FP32", x)], [Tensor("p", "FP32", probabilities)], client)


def give(gathering: BaselineCollector, calls: list[InferCall]) -> None:
    """Have rows of calls gathered, their tensors one below the other."""
    gathering.gather(calls, _stacked([call.tensors for call in calls]), _stacked([call.outputs for call in calls]))


def _stacked(requests: list[list[Tensor]]) -> list[Tensor]:
    if len(requests) == 1:
        return requests[0]
    return [
        Tensor(item[0].name, item[0].datatype, np.concatenate([part.data for part in item]))
        for item in zip(*requests, strict=True)
    ]


def values(learned: Learned) -> Counter[float]:
    """How many rows with each value were handed over."""
    [(inputs, _, _, _)] = learned
    return Counter(float(number) for part in inputs for number in part.numbers[:, 0])


def test_rows_are_handed_over_once_there_are_enough() -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(10), learned)
    give(gathering, [call(4), call(5)])
    assert learned == []
    give(gathering, [call(1), call(99)])
    give(gathering, [call(50)])  # it has learned
    assert len(learned) == 1
    inputs, outputs, confidence, seen = learned[0]
    assert seen == 4
    assert [sum(map(len, side)) for side in (inputs, outputs)] == [10, 10]
    assert (confidence.classes, sum(confidence.counts)) == (2, 10)


def test_rows_of_one_request_do_not_make_a_reference() -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(1000, requests=50), learned)
    give(gathering, [call(100_000, value=7.0)])
    assert learned == []
    for number in range(49):
        give(gathering, [call(20, client=number)])
    assert values(learned) == {7.0: 20, 1.0: 980}


@pytest.mark.parametrize(("share", "others"), [(0.5, 1), (0.1, 9)])
def test_rows_of_one_client_do_not_make_a_reference(share: float, others: int) -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(100, share=share), learned)
    for _ in range(500):
        give(gathering, [call(1, client=7, value=7.0)])
    assert learned == []
    for number in range(others):
        for _ in range(200):
            give(gathering, [call(1, client=100 + number)])
    assert values(learned)[7.0] <= share * 100


def test_rows_of_one_moment_do_not_make_a_reference() -> None:
    learned: Learned = []
    clock = Clock()
    gathering = collector(LearnSpec(200, seconds=60.0), learned, clock=clock)
    for second in range(60):
        for number in range(10):
            give(gathering, [call(1, client=number, value=float(second))])
        assert learned == []
        clock.move(1.0)
    early = sum(count for second, count in values(learned).items() if second < 20)
    assert early < 110  # of the first third of the time, although they alone would have been enough


def test_it_is_handed_over_when_the_time_has_come_though_nobody_calls_any_more() -> None:
    learned: Learned = []
    clock = Clock()
    gathering = collector(LearnSpec(20, seconds=60.0), learned, clock=clock)
    give(gathering, [call(20)])
    clock.move(59.0)
    assert learned == []
    clock.move(1.0)
    assert values(learned) == {1.0: 20}
    del gathering


def test_one_that_was_given_up_keeps_nothing_and_hands_nothing_over() -> None:
    learned: Learned = []
    clock = Clock()
    gathering = collector(LearnSpec(20, seconds=60.0), learned, clock=clock)
    give(gathering, [call(20)])
    del gathering
    gc.collect()
    clock.move(60.0)
    assert learned == []


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 4)), max_size=80),
    st.integers(1, 20),
    st.sampled_from([0.3, 0.5, 1.0]),
)
def test_no_request_and_no_client_gives_more_than_its_part(
    requests: list[tuple[int, int]], least: int, share: float
) -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(100, least, 0.0, share), learned)
    for number, (rows, client) in enumerate(requests):
        give(gathering, [call(rows, client, value=1000.0 * client + number)])
    if not learned:
        return
    found = values(learned)
    assert sum(found.values()) == 100
    assert len(found) >= least
    assert max(found.values()) <= max(1, 100 // least)
    clients: Counter[int] = Counter()
    for value, count in found.items():
        clients[int(value // 1000)] += count
    assert max(clients.values()) <= round(share * 100)


def test_answers_that_do_not_follow_the_rows_are_left_out() -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(3), learned)
    give(gathering, [call(3, outputs=1), call(3)])
    assert sum(map(len, learned[0][0])) == 3


def test_wide_rows_are_handed_over_before_they_take_much_memory() -> None:
    learned: Learned = []
    width = 50
    rows = MAX_GATHERED_BYTES // (8 * width) + 1
    give(collector(LearnSpec(1 << 30), learned, width), [call(rows, width=width)])
    assert len(learned) == 1


@pytest.mark.parametrize("scores", [np.array([[2.0, 3.0]], np.float32), np.array([[np.nan, 1.0]], np.float32)])
def test_numbers_that_are_not_probabilities_give_no_confidence(scores: np.ndarray) -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(2), learned)
    give(gathering, [served(call(1).tensors, [Tensor("p", "FP32", scores)]), call(1)])
    assert learned[0][2] is None


def test_a_request_of_many_rows_costs_as_much_as_one_of_few() -> None:
    learned: Learned = []
    gathering, large = collector(LearnSpec(10), learned), call(1 << 20)
    tracemalloc.start()
    give(gathering, [large])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert learned
    assert peak < 1 << 20


def test_a_timer_that_comes_too_soon_is_set_again() -> None:
    learned: Learned = []
    clock = Clock()
    gathering = collector(LearnSpec(10, seconds=10), learned, clock=clock)
    give(gathering, [call(10)])
    clock.now = 9.9998
    gathering.wake()
    assert learned == []
    clock.move(0.01)
    assert learned


def test_most_requests_after_there_are_enough_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(100, seconds=60.0), learned)
    computed = 0
    rows_of = Columns.__call__

    def counted(columns: Columns, tensors: Sequence[Tensor]) -> RowValues | None:
        nonlocal computed
        computed += len(tensors[0].data)
        return rows_of(columns, tensors)

    monkeypatch.setattr(Columns, "__call__", counted)
    for _ in range(500):
        give(gathering, [call(1, client=client) for client in range(20)])
    assert computed < 2 * 1500  # about 100 (1 + ln 100) rows are drawn, each of the inputs and of the outputs


@given(st.lists(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 3)), min_size=1, max_size=6), max_size=20))
def test_rows_stay_with_their_answers_and_their_client(batches: list[list[tuple[int, int]]]) -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(40, requests=4), learned)
    number = 0
    for batch in batches:
        calls = []
        for rows, client in batch:
            number += 1
            one = call(rows, client, value=float(number))
            one.outputs[0].data[:] = [[1 / (number + 1), number / (number + 1)]]
            calls.append(one)
        give(gathering, calls)
    for inputs, outputs, sure, _ in learned:
        for brought, answered in zip(inputs, outputs, strict=True):
            value = brought.numbers[0, 0]
            assert (brought.numbers == value).all()
            assert len(brought) == len(answered) <= 10
            np.testing.assert_allclose(answered.numbers[:, 0], max(value, 1) / (value + 1), rtol=1e-6)
        assert sum(sure.counts) == sum(map(len, inputs))


@pytest.mark.parametrize("own", [0, 1, 3, 90])
def test_each_request_of_a_client_is_as_likely_to_go_and_no_other(own: int) -> None:
    """Guesses find one of many, and a list one of few."""
    gathering = collector(LearnSpec(rows=200, seconds=9), [])
    for number in range(100):
        give(gathering, [call(1, 1 if number * own // 100 != (number + 1) * own // 100 else 2)])
    places = [index for index, sample in enumerate(gathering._samples) if sample.client == 1]
    assert len(places) == own
    found = Counter(gathering._any_of(1) for _ in range(60 * max(1, own)))
    assert set(found) == set(places or [MISSING])
    assert max(found.values()) < 6 * min(found.values())


def test_only_the_kept_rows_decide_whether_answers_are_probabilities() -> None:
    learned: Learned = []
    gathering = collector(LearnSpec(4, requests=4), learned)
    other = call(8)
    other.outputs[0].data[1:] = 7.0  # no probabilities, but for the row that is kept
    give(gathering, [call(1), other, call(1), call(1)])
    assert sum(learned[0][2].counts) == 4


@pytest.mark.parametrize("rows", [0, 3])
def test_what_is_awaited_is_handed_over_however_little_and_once(rows: int) -> None:
    learned: Learned = []
    clock = Clock()
    gathering = collector(LearnSpec(10, requests=2, seconds=60.0), learned, clock=clock)
    if rows:
        give(gathering, [call(rows)])
    gathering.publish_baseline()
    gathering.publish_baseline()
    clock.move(100)
    give(gathering, [call(1, client=number) for number in range(20)])
    [(inputs, outputs, _, seen)] = learned
    assert [sum(map(len, side)) for side in (inputs, outputs)] == [rows, rows]
    assert seen == (1 if rows else 0)
