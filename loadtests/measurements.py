"""What one benchmark yields: windows, servers, and the medians and ratios drawn from them."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loadtests.contenders import Contender
from loadtests.h2load import Window


@dataclass(frozen=True, slots=True)
class Load:
    """Closed loop over ``connections``, or open loop at ``share`` of the contender's own peak of the round."""

    name: str
    seconds: float
    connections: int = 0
    share: float = 0.0


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

    ``to_inline`` and ``to_batched`` are medians of the ratio of each round: of throughput in a closed loop with many
    connections, of the median duration with one; None where a ratio would compare different rates.
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
    errors: int


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
        return Row(
            model=model,
            load=load.name,
            contender=contender.name,
            rate=statistics.median(rates),
            rate_min=min(rates),
            rate_max=max(rates),
            p50=_median(own, lambda measurement: measurement.window.latencies.p50),
            p99=_median(own, lambda measurement: measurement.window.latencies.p99),
            p999=_median(own, lambda measurement: measurement.window.latencies.p999),
            samples=min(measurement.window.latencies.count for measurement in own),
            cpu_us=_median(own, lambda measurement: measurement.cpu_us),
            to_inline=self._ratio(own, load, contender.inline),
            to_batched=self._ratio(own, load, contender.batched),
            errors=sum(measurement.window.errors for measurement in own),
        )

    def _of(self, model: str, load: str, contender: str) -> list[Measurement]:
        return [
            measurement
            for measurement in self._all
            if (measurement.model, measurement.load, measurement.contender) == (model, load, contender)
        ]

    def _ratio(self, own: Sequence[Measurement], load: Load, ceiling: str) -> float | None:
        by_round = {measurement.round: measurement for measurement in self._of(own[0].model, load.name, ceiling)}
        value: Callable[[Measurement], float] = _p50 if load.connections == 1 else _rate
        ratios = [
            value(measurement) / value(by_round[measurement.round])
            for measurement in own
            if measurement.round in by_round
        ]
        return statistics.median(ratios) if ratios and load.connections else None


def _p50(one: Measurement) -> float:
    return one.window.latencies.p50


def _rate(one: Measurement) -> float:
    return one.window.rate


def _median(some: Iterable[Measurement], value: Callable[[Measurement], float]) -> float:
    return statistics.median(value(measurement) for measurement in some)
