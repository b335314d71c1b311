"""The half load of the benchmark: schedules, percentiles, ratios and misses, and one short run of it."""

import argparse
import math
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import bench
from loadtests.bench import PEAK, Plan
from loadtests.contenders import Contender, list_contenders
from loadtests.h2load import Window
from loadtests.latencies import Latencies
from loadtests.measurements import Load, Measurement, Results, median_ratio
from loadtests.models import MODELS
from loadtests.openloop import Client, Misses, OpenWindow, draw_arrivals
from loadtests.processes import split_cores
from loadtests.report import describe_missed
from loadtests.wires import connect

TINY = MODELS["tiny"]
HALF = Load("half of the ceiling's peak", 0.3, share=0.5, of="batched")
NOTHING = Latencies(1.0, 1.0, 1.0, 1)


@given(st.floats(0, 5000), st.floats(0, 2), st.integers(0, 1 << 30))
def test_a_schedule_is_in_order_within_its_time_and_the_same_again(rate: float, seconds: float, seed: int) -> None:
    moments = draw_arrivals(rate, seconds, seed)
    assert (np.diff(moments) >= 0).all()
    assert ((moments > 0) & (moments < seconds)).all()
    assert (moments == draw_arrivals(rate, seconds, seed)).all()


@pytest.mark.parametrize("rate", [100.0, 10_000.0])
def test_a_schedule_has_the_mean_and_the_spread_of_a_poisson_process(rate: float) -> None:
    seconds = 20_000 / rate
    gaps = np.diff(draw_arrivals(rate, seconds, 1))
    assert len(gaps) == pytest.approx(rate * seconds, rel=0.05)
    assert gaps.std() == pytest.approx(1 / rate, rel=0.05)


@given(st.lists(st.integers(0, 1 << 40), max_size=300), st.integers(0, 50))
def test_percentiles_are_ranks_among_all_requests_and_misses_rank_last(durations: list[int], misses: int) -> None:
    found = Latencies.of(np.array(durations, np.int64), misses)
    ranked = sorted(durations) + [math.inf] * misses
    assert found.count == len(ranked)
    for value, share in ((found.p50, 500), (found.p99, 990), (found.p999, 999)):
        if not ranked:
            assert math.isnan(value)
        else:
            assert value == ranked[-(-share * (len(ranked) - 1) // 1000)] / 1000


@pytest.mark.parametrize(
    ("misses", "p50", "p99", "p999"),
    [(0, 1.0, 1.0, 1.0), (1, 1.0, 1.0, math.inf), (20, 1.0, math.inf, math.inf), (999, math.inf, math.inf, math.inf)],
)
def test_a_request_without_an_answer_counts_as_slow(misses: int, p50: float, p99: float, p999: float) -> None:
    found = Latencies.of(np.full(1000 - misses, 1000), misses)
    assert (found.p50, found.p99, found.p999) == (p50, p99, p999)


@pytest.mark.parametrize(
    ("own", "ceiling", "expected"),
    [
        ({0: 3.0, 1: 8.0, 2: 1.0}, {0: 2.0, 1: 4.0, 2: 1.0}, 1.5),
        ({0: 3.0, 1: 8.0}, {1: 4.0}, 2.0),
        ({0: 3.0}, {1: 4.0}, None),
        ({0: math.inf}, {0: 4.0}, math.inf),
        ({0: 3.0, 1: 8.0}, {0: 0.0, 1: 4.0}, 2.0),  # the window was too short for the ceiling
        ({0: 3.0}, {0: 0.0}, None),
    ],
)
def test_a_ratio_is_the_median_of_those_of_the_rounds(
    own: dict[int, float], ceiling: dict[int, float], expected: float | None
) -> None:
    pair = [[_measured("any", number, cpu_us=value) for number, value in side.items()] for side in (own, ceiling)]
    assert median_ratio(pair[0], pair[1], lambda measurement: measurement.cpu_us) == expected


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(0.1, 1e6)), min_size=1, max_size=9), st.floats(0.1, 10))
def test_the_speed_of_a_machine_does_not_change_a_ratio(pairs: list[tuple[float, float]], factor: float) -> None:
    def both(factors: Sequence[float]) -> float | None:
        sides = [
            [_measured("any", number, cpu_us=pair[side] * factors[number]) for number, pair in enumerate(pairs)]
            for side in (0, 1)
        ]
        return median_ratio(sides[0], sides[1], lambda measurement: measurement.cpu_us)

    assert both([1.0] * len(pairs)) == pytest.approx(both([factor**number for number in range(len(pairs))]))


def test_a_row_of_half_load_compares_all_percentiles_and_counts_what_was_missed() -> None:
    own = OpenWindow(9, 3, 5.0, Latencies(2.0, 6.0, 20.0, 9), 5.0, Misses(1, 0, 0, 2), 4, 0.5, NOTHING, NOTHING)
    least = OpenWindow(9, 0, 5.0, Latencies(1.0, 2.0, 5.0, 9), 5.0, Misses(), 0, 0.1, NOTHING, NOTHING)
    measured = [
        _measured("penstock json", 0, 30.0, own),
        _measured("penstock json", 1, 50.0, own),
        _measured("batched json", 0, 20.0, least),
        _measured("batched json", 1, 20.0, least),
    ]
    row = Results(measured).row("tiny", HALF, _contender("penstock json"))
    assert row is not None
    assert (row.to_inline, row.to_batched, row.p99_to_batched, row.p999_to_batched) == (None, 2.0, 3.0, 4.0)
    assert (row.cpu_to_batched, row.delayed, row.lag_p99_ms, row.errors) == (2.0, 8, 0.5, 6)
    assert describe_missed(row.misses) == "2 refused, 4 unsent"
    assert describe_missed(Misses()) == "0"


def test_all_contenders_get_the_same_rate_and_none_where_no_peak_was_measured() -> None:
    plan = Plan((TINY,), (PEAK, *bench.HALF_LOADS), 2, without=("2 workers", "batched grpc"))
    half = [(load, contender) for load, contender in plan.windows(TINY) if not load.connections]
    for load, contender in half:
        assert load.reference(contender) == f"{load.of} {contender.batched.split()[1]}"
    asked = {(load.of, contender.name) for load, contender in half}
    assert {("penstock", "fastapi"), ("batched", "fastapi"), ("penstock", "penstock grpc")} <= asked
    assert ("batched", "penstock grpc") not in asked
    assert plan.steps() == 2 * len(plan.windows(TINY, 1))


def _plan(*options: str) -> Plan:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench._plan(parser.parse_args(["--half-load", *options]))


def test_half_load_measures_penstock_and_the_ceiling_with_the_codecs_that_are_chosen() -> None:
    plan = _plan("--only", "json")
    assert [contender.name for contender in plan.contenders(TINY)] == ["penstock json", "batched json"]
    assert [contender.name for contender in plan.contenders(TINY, 1)] == ["batched json", "penstock json"]
    assert (plan.models, plan.rounds, plan.steps()) == ((TINY,), 5, 5 * 2 * 3)
    assert len(_plan().contenders(TINY)) == 6


@pytest.mark.parametrize(
    ("options", "peak_s", "half_s"),
    [([], 4.0, 60.0), (["--seconds", "6"], 4.0, 6.0), (["--scale", "0.1"], 0.4, 6.0)],
)
def test_the_windows_of_half_load_are_as_long_as_stated(options: list[str], peak_s: float, half_s: float) -> None:
    assert [load.seconds for load in _plan(*options).loads] == pytest.approx([peak_s, half_s, half_s])


def test_the_estimate_follows_the_windows_and_the_rounds() -> None:
    short, long, twice = (
        _plan("--only", "json", "--rounds", *options)
        for options in (("1", "--seconds", "6"), ("1", "--seconds", "60"), ("2", "--seconds", "6"))
    )
    assert long.estimate_s() - short.estimate_s() == pytest.approx(4 * 54)
    assert twice.estimate_s() == pytest.approx(2 * short.estimate_s())


def test_two_workers_are_left_out_where_they_would_share_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, without in (([0], ("2 workers",)), ([0, 1], ())):
        monkeypatch.setattr(bench, "split_cores", lambda cores=cores: (cores, cores))
        assert bench._impossible() == without


def test_what_is_not_sent_or_not_answered_is_counted() -> None:
    """Over one connection, whose server does not answer, one request is sent and the others wait."""
    with _listener(1) as address, closing(connect(False, address, "/", {}, b"")) as wire:
        client = Client(lambda: wire, 1, np.arange(1.0, 6.0) / 1000, give_up_s=0.05)
        client.run()
    assert client.misses == Misses(unanswered=1, unsent=4)
    assert client.durations == []


@contextmanager
def _listener(backlog: int) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_short_run_drops_no_request_of_its_schedule() -> None:
    others = {contender.server for contender in list_contenders(TINY)} - {"batched json", "inline json"}
    plan = Plan((TINY,), (replace(PEAK, seconds=0.3), HALF), 1, without=tuple(others))
    measured, _ = bench.run(plan, lambda _: None)
    by_load = {(item.load, item.contender): item.window for item in measured}
    rate = by_load[PEAK.name, "batched json"].rate / 2
    core = split_cores()[1]
    due = sum(len(draw_arrivals(rate / len(core), HALF.seconds, number)) for number in core)
    for name in ("batched json", "inline json"):
        window = by_load[HALF.name, name]
        assert isinstance(window, OpenWindow)
        assert window.asked == rate
        assert window.done == window.latencies.count == due
        assert window.accepted.count + window.misses.total == due
    row = Results(measured).row("tiny", HALF, _contender("inline json"))
    assert row is not None
    assert row.cpu_to_batched is not None


def _contender(name: str) -> Contender:
    return next(contender for contender in list_contenders(TINY) if contender.name == name)


def _measured(contender: str, number: int, cpu_us: float, window: Window | None = None) -> Measurement:
    return Measurement(number, "tiny", contender, HALF.name, window or Window(1, 0, 1.0, NOTHING), cpu_us, 0.0)
