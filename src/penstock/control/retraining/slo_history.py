"""What was counted of requests over time, of each model whose rules rest on burn rates of its objectives."""

from collections.abc import Mapping
from typing import Any

from penstock.core.policies import MonitorPolicy
from penstock.core.triggers.burn_rate import Counts, History

STEPS = 10
"""Counts within the shortest window."""


class SloHistories:
    """In memory: whoever takes the lead begins anew, and so does each version."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[Any, ...], History]] = {}

    def add(
        self, key: tuple[str, str], policy: MonitorPolicy, monitor: Mapping[str, Any], now: float
    ) -> tuple[Counts, ...]:
        """The history of a version, with what its ``monitor`` says now added; empty where no rule asks for it."""
        model, version = key
        windows = _windows(policy)
        if not windows:
            self._known.pop(model, None)
            return ()
        longest, step_s = max(long for long, _ in windows), min(short for _, short in windows) / STEPS
        shape = (version, longest, step_s, dict(policy.objectives))
        known = self._known.get(model)
        if known is None or known[0] != shape:
            known = self._known[model] = shape, History(longest, step_s)
        counted: Mapping[str, int] = monitor.get("requests") or {}
        known[1].add(Counts(now, counted.get("answered", 0), counted.get("failed", 0), counted.get("slow", 0)))
        return known[1].counts()

    def keep(self, models: set[str]) -> None:
        """Forget all other models."""
        for gone in self._known.keys() - models:
            del self._known[gone]


def _windows(policy: MonitorPolicy) -> list[tuple[float, float]]:
    """The windows, long and short, that the rules of a policy look back on."""
    conditions = [one for rule in policy.triggers for one in (rule.when, rule.until) if one is not None]
    return [
        (leaf.values["long_seconds"], leaf.values["short_seconds"])
        for condition in conditions
        for leaf in condition.leaves()
        if leaf.word == "slo"
    ]
