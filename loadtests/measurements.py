"""What one benchmark yields: windows, servers, and the medians and ratios drawn from them."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass

from loadtests.contenders import Contender
from loadtests.h2load import Window
from loadtests.openloop import Misses, OpenWindow

ONE, MANY = "1 connection", "32 connections"
CLOSED = (ONE, MANY)
"""The names of the closed loops; all others are open."""


@dataclass(frozen=True, slots=True)
class Load:
    """Closed loop over ``connections``, or open loop at the same rate for everybody: ``share`` of the peak that the
    server ``of`` had with the same codec in the round."""

    name: str
    seconds: float
    connections: int = 0
    share: float = 0.0
    of: str = ""

    def reference(self, contender: Contender) -> str:
        """The contender whose peak gives the rate of an open loop."""
        return contender.beside(self.of)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One window of one contender; ``cpu_us`` is processor time of its process tree for each answer."""

    round: int
    model: str
    contender: str
    load: str
    window: Window
    cpu_us: float
    stolen_s: float


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server in one round: seconds from its start to ready, and its memory at the end of the round."""

    round: int
    model: str
    server: str
    start_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """One contender under one load: medians over the rounds; ``samples`` are the durations of the poorest round.

    Ratios are medians of the ratio of each round, None where that ceiling was not measured. ``to_inline`` and
    ``to_batched`` compare throughput in a closed loop with many connections, and the median duration otherwise; the
    other three compare the tails and the processor time with those of ``batched``. ``delayed`` and ``misses`` are those
    of all rounds, ``lag_p99_ms`` the worst of a round (see OpenWindow).
    """

    model: str
    load: str
    contender: str
    rate: float
    rate_min: float
    rate_max: float
    p50: float
    p99: float
    p999: float
    samples: int
    cpu_us: float
    to_inline: float | None
    to_batched: float | None
    p99_to_batched: float | None
    p999_to_batched: float | None
    cpu_to_batched: float | None
    errors: int
    delayed: int
    lag_p99_ms: float
    misses: Misses


class Results:
    """All measurements of a run."""

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        self._all = measurements

    def row(self, model: str, load: Load, contender: Contender) -> Row | None:
        """Medians of a contender under a load, None if it was not measured."""
        own = self._of(model, load.name, contender.name)
        if not own:
            return None
        rates = [measurement.window.rate for measurement in own]
        inline, batched = (self._of(model, load.name, ceiling) for ceiling in (contender.inline, contender.batched))
        main = rate if load.connections > 1 else p50
        windows = [measurement.window for measurement in own if isinstance(measurement.window, OpenWindow)]
        return Row(
            model=model,
            load=load.name,
            contender=contender.name,
            rate=statistics.median(rates),
            rate_min=min(rates),
            rate_max=max(rates),
            p50=_median(own, p50),
            p99=_median(own, p99),
            p999=_median(own, p999),
            samples=min(measurement.window.latencies.count for measurement in own),
            cpu_us=_median(own, cpu_us),
            to_inline=median_ratio(own, inline, main),
            to_batched=median_ratio(own, batched, main),
            p99_to_batched=median_ratio(own, batched, p99),
            p999_to_batched=median_ratio(own, batched, p999),
            cpu_to_batched=median_ratio(own, batched, cpu_us),
            errors=sum(measurement.window.errors for measurement in own),
            delayed=sum(window.delayed for window in windows),
            lag_p99_ms=max((window.lag_p99_ms for window in windows), default=0.0),
            misses=_join_misses([window.misses for window in windows]),
        )

    def _of(self, model: str, load: str, contender: str) -> list[Measurement]:
        return [
            measurement
            for measurement in self._all
            if (measurement.model, measurement.load, measurement.contender) == (model, load, contender)
        ]


Value = Callable[[Measurement], float]


def median_ratio(own: Sequence[Measurement], ceiling: Sequence[Measurement], value: Value) -> float | None:
    """The median of a value's ratio to that of the ceiling in the same round, None where no round has both.

    A short window may see no answer of a long run, or no processor time: then there is nothing to divide by.
    """
    by_round = {measurement.round: value(measurement) for measurement in ceiling}
    ratios = [
        value(measurement) / by_round[measurement.round] for measurement in own if by_round.get(measurement.round)
    ]
    return statistics.median(ratios) if ratios else None


def p50(one: Measurement) -> float:
    """The median duration."""
    return one.window.latencies.p50


def p99(one: Measurement) -> float:
    """The 99th percentile of durations."""
    return one.window.latencies.p99


def p999(one: Measurement) -> float:
    """The 99.9th percentile of durations."""
    return one.window.latencies.p999


def cpu_us(one: Measurement) -> float:
    """Processor time of an answer."""
    return one.cpu_us


def rate(one: Measurement) -> float:
    """Answers a second."""
    return one.window.rate


def _median(some: Iterable[Measurement], value: Value) -> float:
    return statistics.median(value(measurement) for measurement in some)


def _join_misses(misses: Sequence[Misses]) -> Misses:
    return Misses(*(sum(kind) for kind in zip(*map(astuple, misses), strict=True)))
