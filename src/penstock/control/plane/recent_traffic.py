"""The recent traffic of one gateway: reads the workers' counters at intervals and on request, and shows rates."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from penstock.control.periodic import PeriodicTask
from penstock.core.routing import POINTS
from penstock.core.versions import VersionKey, sort_key
from penstock.monitor.counters.activity import read_activity
from penstock.monitor.counters.slot import Slot
from penstock.monitor.recent_traffic import Group, RecentTraffic, Window

Document = dict[str, Any]

FRESH_S: Final = 1.0
"""Age up to which the counters that were read last are shown, in seconds."""


class TrafficMeter:
    """Measures the requests that versions answered in the last minutes; belongs to the event loop.

    ``blocks`` returns the counter block of each version; ``check_model`` raises ``NotFound`` for an unknown model;
    ``clock`` is monotonic, ``now`` gives seconds since the epoch.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        blocks: Callable[[], Mapping[VersionKey, int]],
        check_model: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._slots = slots
        self._blocks = blocks
        self._check_model = check_model
        self._clock = clock
        self._now = now
        self._recent = RecentTraffic()
        self._read_at: float | None = None
        self._read_time = 0.0
        self._series: dict[Group, Document] = {}
        self._series_of = -1
        self.task = PeriodicTask(
            "recent_traffic",
            self.step,
            self._recent.step_s,
            meanwhile="the console shows older traffic",
            chance=lambda: 0.5,  # steps of the same length
        )

    async def step(self) -> None:
        """Read the counters."""
        self._read(self._clock())

    def _read(self, at: float) -> None:
        blocks = self._blocks()
        keys = sorted(blocks)
        self._recent.add(at, keys, read_activity(self._slots, [blocks[key] for key in keys]))
        self._read_at, self._read_time = at, self._now()

    def document(self) -> Document:
        """Return the traffic of every model, with the rates of the versions that had requests in the window."""
        window = self._fresh_window()
        documents, requests, mirrored = window.documents(), window.requests(), window.mirrored()
        models = {model: {**documents[model], "series": self._series_document(model)} for model in window.layout.models}
        for key in window.layout.versions:
            if key in requests or key in mirrored:
                version = _version_document(key, documents[key], requests, _per_second(mirrored.get(key, 0), window))
                models[key[0]].setdefault("versions", {})[key[1]] = version
        shown = {model: {"versions": {}, **models[model]} for model in sorted(models)}
        return {**self._head(), "models": shown}

    def model_document(self, model: str) -> Document:
        """Return the traffic of one model, with the series of the versions that had requests in the last minutes.

        Raises:
            NotFound: no such model.
        """
        window = self._fresh_window()
        if model not in window.layout.models:
            self._check_model(model)
            return {**self._head(), "model": model, "series": self._series_document(model), "versions": {}}
        documents, requests, mirrored = window.documents(), window.requests(), window.mirrored()
        versions = {}
        for key in sorted((key for key in window.layout.versions if key[0] == model), key=lambda key: sort_key(key[1])):
            series = self._series_document(key)
            if series["requests"] or key in requests or key in mirrored:
                rates = {**documents[key], "series": series}
                versions[key[1]] = _version_document(key, rates, requests, _per_second(mirrored.get(key, 0), window))
        rates = {**documents[model], "series": self._series_document(model)}
        return {**self._head(), "model": model, **rates, "versions": versions}

    def requests_per_second(self, model: str) -> float:
        """Return the rate of a model's requests in the window, 0 without requests."""
        window = self._fresh_window()
        return _per_second(window.requests().get(model, 0), window)

    def activity(self, model: str) -> int:
        """Return how many requests a model's versions got until now, or a moment ago; 0 for an unknown model."""
        self._read_if_old()
        return self._recent.requests_so_far(model)

    def _fresh_window(self) -> Window:
        """Return the traffic until now, or a moment ago."""
        self._read_if_old()
        return self._recent.window()

    def _read_if_old(self) -> None:
        at = self._clock()
        if self._read_at is None or at - self._read_at >= FRESH_S:
            self._read(at)

    def _head(self) -> Document:
        return {"scope": "gateway", "at": round(self._read_time, 3), "window_seconds": self._recent.window_s}

    def _series_document(self, group: Group) -> Document:
        if self._series_of != self._recent.closed:
            self._series, self._series_of = {}, self._recent.closed
        if group not in self._series:
            self._series[group] = {"step_seconds": self._recent.step_s, **self._recent.series(group)}
        return self._series[group]


def _version_document(key: VersionKey, rates: Document, requests: Mapping[Group, int], mirrored: float) -> Document:
    """Return the rates of a version with its share of its model's requests; ``mirrored`` is a rate."""
    share = round(POINTS * requests.get(key, 0) / requests[key[0]]) if key in requests else 0
    shadow = {"shadow": True, "mirrored_per_second": mirrored} if mirrored else {}
    return {"share_basis_points": share, **rates, **shadow}


def _per_second(count: int, window: Window) -> float:
    return round(count / window.seconds, 3) if window.seconds else 0.0
