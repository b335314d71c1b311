"""The request counts over time of models whose rules use burn rates of objectives.

Counts are written down as they are taken, so whoever leads next looks back on the same windows.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from penstock.core.policies import MonitorPolicy
from penstock.core.triggers.burn_rate import History, RequestCounts
from penstock.core.versions import VersionKey

STEPS = 10
"""Number of counts within the shortest window."""

Run = Callable[..., Awaitable[Any]]


class CountStore(Protocol):
    """Stores counts; its methods block."""

    def requests_over_time(self, key: VersionKey, slow_ms: float) -> Sequence[RequestCounts]:
        """Return the stored counts of a version, oldest first; ``slow_ms`` is the threshold of slow requests."""

    def note_requests(self, key: VersionKey, slow_ms: float, counts: RequestCounts, kept_s: float) -> None:
        """Store counts of a version, and delete those older than ``kept_s`` or of the model's other versions."""


class SloHistories:
    """The histories of one gateway while it leads; each version's restarts. ``run`` runs blocking calls on a thread."""

    def __init__(self, store: CountStore, run: Run) -> None:
        self._kept = store
        self._run = run
        self._known: dict[str, tuple[tuple[Any, ...], History]] = {}

    async def add(
        self, key: VersionKey, policy: MonitorPolicy, monitor: Mapping[str, Any], now: float
    ) -> tuple[RequestCounts, ...]:
        """Add the present counts of ``monitor`` to the history of a version, and return it; empty if no rule needs it.

        Raises:
            NotReady: the counts could not be read or written down; nothing was added.
        """
        windows = _list_windows(policy)
        if not windows:
            self._known.pop(key[0], None)
            return ()
        slow_ms = float(policy.objectives.get("latency_p99_ms", 0.0))
        history = await self._history(key, windows, slow_ms, now)
        if history.takes(now):
            counted: Mapping[str, int] = monitor.get("requests") or {}
            counts = RequestCounts(now, *(counted.get(name, 0) for name in ("answered", "failed", "slow")))
            await self._run(self._kept.note_requests, key, slow_ms, counts, history.window_s + 2 * history.step_s)
            history.add(counts)
        return history.counts()

    async def _history(
        self, key: VersionKey, windows: Sequence[tuple[float, float]], slow_ms: float, now: float
    ) -> History:
        longest, step_s = max(long for long, _ in windows), min(short for _, short in windows) / STEPS
        shape = (key[1], longest, step_s, slow_ms)
        cached = self._known.get(key[0])
        if cached is None or cached[0] != shape:
            history = History(longest, step_s)
            for counts in await self._run(self._kept.requests_over_time, key, slow_ms):
                if counts.at <= now:  # else by a clock that was set back
                    history.add(counts)
            cached = self._known[key[0]] = shape, history
        return cached[1]

    def forget_others(self, models: set[str]) -> None:
        """Forget all other models: their counts are stored."""
        for gone in self._known.keys() - models:
            del self._known[gone]

    def forget(self) -> None:
        """Forget all: another gateway leads."""
        self._known.clear()


def _list_windows(policy: MonitorPolicy) -> list[tuple[float, float]]:
    """Return the windows, long and short, of the rules of a policy."""
    conditions = [item for rule in policy.triggers for item in (rule.when, rule.until) if item is not None]
    return [
        (leaf.values["long_seconds"], leaf.values["short_seconds"])
        for condition in conditions
        for leaf in condition.leaves()
        if leaf.word == "slo"
    ]
