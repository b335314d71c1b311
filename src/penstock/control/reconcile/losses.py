"""Counts workers that died with calls in flight, for the life of an instance and across control processes."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from penstock.core.versions import VersionKey


class WorkerLosses:
    """Deaths with calls in flight by version, and the worker of each slot that was counted last."""

    def __init__(self) -> None:
        self._counts: Counter[VersionKey] = Counter()
        self._last: dict[int, int] = {}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "WorkerLosses":
        """Restore from the values of ``out``."""
        losses = cls()
        losses._counts.update({(model, version): count for model, version, count in values.get("counts", [])})
        losses._last.update(dict(values.get("last", [])))
        return losses

    def out(self) -> dict[str, Any]:
        """As JSON values."""
        counts = [[*key, count] for key, count in self._counts.items()]
        return {"counts": counts, "last": [[slot, pid] for slot, pid in self._last.items()]}

    def note(self, slot: int, pid: int, versions: Iterable[VersionKey]) -> None:
        """Count the death of a slot's worker with calls of these versions in flight; each worker is counted once."""
        if self._last.get(slot) != pid:
            self._last[slot] = pid
            self._counts.update(versions)

    def forget(self, versions: Collection[VersionKey]) -> None:
        """Forget all versions but these."""
        self._counts = Counter({key: count for key, count in self._counts.items() if key in versions})

    def of_version(self, key: VersionKey) -> int:
        """How many workers died with calls of a version in flight."""
        return self._counts[key]
