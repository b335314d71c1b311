"""The exams of candidates against one champion: all tries count, so that none passes by luck."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

MOST_REMEMBERED = 50
"""Maximum candidates whose exams are remembered by name; all of them count."""


@dataclass(frozen=True, slots=True)
class ExamResult:
    """The result of one exam: the fingerprint of its gates, and the reasons against the candidate; None for
    one that has not ended."""

    gates: str
    reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Exams:
    """The number of exams that began against a champion, and the last results by version."""

    against: str = ""
    count: int = 0
    results: Mapping[str, ExamResult] = field(default_factory=dict)

    def result(self, version: str, against: str, gates: str) -> tuple[str, ...] | None:
        """Return the reasons that an exam of this version against this champion ended with, under these gates; None
        without one.

        None where there was none, or it did not end.
        """
        result = self.results.get(version) if against == self.against else None
        return None if result is None or result.gates != gates else result.reasons

    def begun(self, version: str, against: str, gates: str) -> "Exams":
        """Return the exams with one more, and without those against another champion."""
        before = self if against == self.against else Exams(against)
        others = [(item, result) for item, result in before.results.items() if item != version]
        previous = dict(others[-MOST_REMEMBERED + 1 :])
        return Exams(against, before.count + 1, {**previous, version: ExamResult(gates)})

    def with_result(self, version: str, against: str, reasons: Sequence[str]) -> "Exams":
        """Return the exams with the result of one; unchanged if it did not begin against this champion."""
        if against != self.against or version not in self.results:
            return self
        result = replace(self.results[version], reasons=tuple(reasons))
        return replace(self, results={**self.results, version: result})


def encode_exams(exams: Exams) -> dict[str, Any]:
    """Encode exams as JSON values."""
    results = [
        [version, result.gates, None if result.reasons is None else list(result.reasons)]
        for version, result in exams.results.items()
    ]
    return {"against": exams.against, "count": exams.count, "results": results}


def decode_exams(values: Mapping[str, Any]) -> Exams:
    """Decode exams from their JSON values."""
    results = {
        version: ExamResult(gates, None if reasons is None else tuple(reasons))
        for version, gates, reasons in values.get("results", [])
    }
    return Exams(values.get("against", ""), values.get("count", 0), results)
