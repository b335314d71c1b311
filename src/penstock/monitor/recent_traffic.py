"""A bounded table of the traffic of the last minutes: per step of some seconds, and over a window that ends now.

It is given the counters of all versions from time to time and keeps differences; it reads no clock and no memory.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.buckets import LATENCY_EDGES_NS
from penstock.core.versions import VersionKey
from penstock.monitor.counters.activity import ACTIVITY_CELLS, BUCKETS, ERRORS, MIRRORED, REQUESTS
from penstock.monitor.counters.layout import Cells

Numbers = NDArray[np.float64]
Group = VersionKey | str
"""A version, or a model by its name: all its versions together."""

_HIGH_NS: Final = np.array([*LATENCY_EDGES_NS, LATENCY_EDGES_NS[-1]], float)
_LOW_NS: Final = np.array([LATENCY_EDGES_NS[0] / 2, *LATENCY_EDGES_NS[:-1], LATENCY_EDGES_NS[-1] / 2], float)
_P50, _P99 = 2, 3


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of a sample: versions, the models behind them, and the row of each. ``owners`` [versions] is the place
    of each version's model among the models."""

    versions: tuple[VersionKey, ...]
    models: tuple[str, ...]
    owners: NDArray[np.intp]
    rows: Mapping[Group, int]

    @classmethod
    def of(cls, versions: Sequence[VersionKey]) -> "Layout":
        """Return the layout of these versions."""
        models = tuple(dict.fromkeys(model for model, _ in versions))
        places = {model: place for place, model in enumerate(models)}
        rows: dict[Group, int] = {key: row for row, key in enumerate(versions)}
        rows |= {model: len(versions) + place for model, place in places.items()}
        return cls(tuple(versions), models, np.array([places[model] for model, _ in versions], np.intp), rows)

    def with_models(self, increase: Cells) -> Cells:
        """Return the increase of each version and, in the rows after them, of each model."""
        sums = np.zeros((len(self.models), increase.shape[1]), np.uint64)
        np.add.at(sums, self.owners, increase)
        return np.concatenate([increase, sums])


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters of all versions at a time (monotonic seconds)."""

    at: float
    layout: Layout
    cells: Cells


@dataclass(frozen=True, slots=True)
class Step:
    """The traffic of one step: requests, errors, p50 and p99 in milliseconds (NaN without requests) of each row of the
    layout."""

    layout: Layout
    values: NDArray[np.float32]


class RecentTraffic:
    """The traffic of the last ``steps`` steps of ``step_s`` seconds, and of a window of ``window_s`` seconds.

    The window is that since the youngest sample of a step's end that is at least that old: up to one step longer, and
    shorter after the start. Not safe for several threads.
    """

    def __init__(self, step_s: float = 10.0, steps: int = 60, window_s: float = 60.0) -> None:
        self.step_s = step_s
        self.window_s = window_s
        self.closed = 0
        self._steps: deque[Step] = deque(maxlen=steps)
        self._ends: deque[Sample] = deque(maxlen=int(window_s / step_s) + 2)
        self._newest: Sample | None = None

    def add(self, at: float, versions: Sequence[VersionKey], cells: Cells) -> None:
        """Add the activity of versions at a time (monotonic seconds); a step ends if the present one is long enough.

        ``cells`` [len(versions), ACTIVITY_CELLS] only grow, except when a version was removed and came back.
        """
        before = self._newest
        same = before is not None and before.layout.versions == tuple(versions)
        self._newest = Sample(at, before.layout if same and before else Layout.of(versions), cells)
        if not self._ends:
            self._ends.append(self._newest)
        elif at >= self._ends[-1].at + 0.95 * self.step_s:
            self._close_step(self._ends[-1], self._newest)

    def _close_step(self, start: Sample, end: Sample) -> None:
        increase = end.layout.with_models(_find_increase(start, end))
        self._steps.append(Step(end.layout, _measure(increase).astype(np.float32)))
        self._ends.append(end)
        self.closed += 1

    def window(self) -> "Window":
        """Return the traffic of the window that ends with the newest sample."""
        if self._newest is None:
            return Window(0.0, Layout.of(()), np.zeros((0, ACTIVITY_CELLS), np.uint64))
        old = [sample for sample in self._ends if sample.at <= self._newest.at - self.window_s]
        start = old[-1] if old else self._ends[0]
        increase = self._newest.layout.with_models(_find_increase(start, self._newest))
        return Window(self._newest.at - start.at, self._newest.layout, increase)

    def requests_so_far(self, model: str) -> int:
        """Return the requests of a model's versions in the newest sample, answered or mirrored to them."""
        row = None if self._newest is None else self._newest.layout.rows.get(model)
        if self._newest is None or row is None:
            return 0
        layout, cells = self._newest.layout, self._newest.cells
        own = layout.owners == row - len(layout.versions)
        return int(cells[own][:, (REQUESTS, MIRRORED)].sum())

    def series(self, group: Group) -> dict[str, Any]:
        """Return the steps of a version or a model, oldest first, as ``requests``, ``errors``, ``p50_ms`` and
        ``p99_ms``; empty lists if it had no requests in all of them."""
        values = np.array([_pick_row(step, group) for step in self._steps], float).reshape(-1, 4)
        if not values[:, REQUESTS].any():
            values = values[:0]
        counts = {
            "requests": values[:, REQUESTS].astype(int).tolist(),
            "errors": values[:, ERRORS].astype(int).tolist(),
        }
        return {**counts, "p50_ms": _round_values(values[:, _P50]), "p99_ms": _round_values(values[:, _P99])}


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted in ``seconds`` seconds, by version and model."""

    seconds: float
    layout: Layout
    increase: Cells

    def documents(self) -> dict[Group, dict[str, Any]]:
        """Return the rates of each version and each model, as JSON values; durations and ratios are None without
        requests."""
        measured = _measure(self.increase)
        requests, errors = measured[:, REQUESTS], measured[:, ERRORS]
        rates = np.round(requests / self.seconds if self.seconds else 0 * requests, 3).tolist()
        ratios = _round_values(np.divide(errors, requests, out=np.full(len(requests), np.nan), where=requests > 0), 6)
        p50, p99 = _round_values(measured[:, _P50]), _round_values(measured[:, _P99])
        names = ("requests_per_second", "error_ratio", "p50_ms", "p99_ms")
        rows = zip(rates, ratios, p50, p99, strict=True)
        documents = [dict(zip(names, row, strict=True)) for row in rows]
        groups: tuple[Group, ...] = (*self.layout.versions, *self.layout.models)
        return dict(zip(groups, documents, strict=True))

    def requests(self) -> dict[Group, int]:
        """Return the requests of each version and each model that had any."""
        return self._column(REQUESTS)

    def mirrored(self) -> dict[Group, int]:
        """Return the requests that were mirrored to each version and each model that had any."""
        return self._column(MIRRORED)

    def _column(self, column: int) -> dict[Group, int]:
        groups: tuple[Group, ...] = (*self.layout.versions, *self.layout.models)
        counts = zip(groups, self.increase[:, column].tolist(), strict=True)
        return {group: count for group, count in counts if count}


def _find_increase(start: Sample, end: Sample) -> Cells:
    """Return what was added to each row of ``end``; everything, if a version is new or its counters began again."""
    if start.layout is end.layout:
        before = start.cells
    else:
        places = [start.layout.rows.get(key, -1) for key in end.layout.versions]
        none = np.zeros((1, ACTIVITY_CELLS), np.uint64)
        before = np.concatenate([start.cells, none])[places] if places else start.cells[:0]
    began_again = np.any(end.cells < before, axis=1, keepdims=True)
    return np.where(began_again, end.cells, end.cells - before)


def _measure(increase: Cells) -> Numbers:
    """Return requests, errors, p50 and p99 in milliseconds of each row [rows, 4]."""
    buckets = increase[:, BUCKETS:].astype(float)
    columns = (increase[:, REQUESTS], increase[:, ERRORS], quantiles_ms(buckets, 0.5), quantiles_ms(buckets, 0.99))
    return np.stack([np.asarray(column, float) for column in columns], axis=1)


def quantiles_ms(buckets: Numbers, share: float) -> Numbers:
    """Return the quantile of each row of counts by latency bucket [rows, buckets] in milliseconds, NaN for a row
    without counts; interpolated as ``histogram.quantile_ns`` does."""
    sums = buckets.cumsum(axis=1)
    total = sums[:, -1]
    rank = share * total
    place = np.minimum((sums < rank[:, None]).sum(axis=1), buckets.shape[1] - 1)
    rows = np.arange(len(buckets))
    count = np.where(total > 0, buckets[rows, place], 1)
    within = (rank - (sums[rows, place] - count)) / count
    low, high = _LOW_NS[place], _HIGH_NS[place]
    return np.where(total > 0, low * (high / low) ** within / 1e6, np.nan)


def _pick_row(step: Step, group: Group) -> Sequence[float]:
    row = step.layout.rows.get(group)
    return (0.0, 0.0, np.nan, np.nan) if row is None else step.values[row].tolist()


def _round_values(values: Numbers, digits: int = 4) -> list[float | None]:
    return [None if value != value else round(value, digits) for value in values.tolist()]  # noqa: PLR0124 - NaN
