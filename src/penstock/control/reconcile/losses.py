"""Workers that ended while they had calls in hand, counted for the life of an instance, whoever watched when."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from penstock.core.versions import VersionKey


class Losses:
    """How many workers ended so for each version, and the last worker of each slot that was counted."""

    def __init__(self) -> None:
        self._counts: Counter[VersionKey] = Counter()
        self._last: dict[int, int] = {}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Losses":
        """What was kept, as ``out`` gives it."""
        losses = cls()
        losses._counts.update({(model, version): count for model, version, count in values.get("counts", [])})
        losses._last.update(dict(values.get("last", [])))
        return losses

    def out(self) -> dict[str, Any]:
        """As JSON values."""
        counts = [[*key, count] for key, count in self._counts.items()]
        return {"counts": counts, "last": [[slot, pid] for slot, pid in self._last.items()]}

    def note(self, slot: int, pid: int, versions: Iterable[VersionKey]) -> None:
        """The worker of a slot has ended with calls of these versions in hand; the same one is counted once."""
        if self._last.get(slot) != pid:
            self._last[slot] = pid
            self._counts.update(versions)

    def forget(self, kept: Collection[VersionKey]) -> None:
        """Forget all versions but these."""
        self._counts = Counter({key: count for key, count in self._counts.items() if key in kept})

    def of_version(self, key: VersionKey) -> int:
        """How many ended with calls of a version in hand."""
        return self._counts[key]
