"""What a version that came of retraining has to show before it is rolled out: pure checks of what is known of it, each
with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the registry knows of a version: its bytes, what it was pushed with, and what its admission measured."""

    size: int
    metadata: Document
    facts: Document

    @property
    def metrics(self) -> Document:
        """The metrics that were pushed with it."""
        found = self.metadata.get("metrics")
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Gates:
    """What is asked: the champion's signature; at most so many bytes, bytes of memory, microseconds a run, and times
    the champion's microseconds; fields of the model card; and a metric (pushed with both) better than the champion's by
    a margin, where ``lower`` says that less is better."""

    same_signature: bool = True
    max_bytes: float | None = None
    max_memory_bytes: float | None = None
    max_run_us: float | None = None
    max_slower: float | None = None
    card: tuple[str, ...] = ()
    metric: str = ""
    by: float = 0.0
    lower: bool = False


def judge(gates: Gates, candidate: Candidate, champion: Candidate | None) -> list[str]:
    """Why a version may not be rolled out, nothing if it may."""
    facts = candidate.facts
    reasons = [
        _above("it takes", candidate.size, gates.max_bytes, "bytes"),
        _above("it takes", facts.get("memory_bytes"), gates.max_memory_bytes, "bytes of memory"),
        _above("a run takes", facts.get("p50_us"), gates.max_run_us, "microseconds"),
    ]
    card = candidate.metadata.get("card")
    told = card if isinstance(card, Mapping) else {}
    reasons += [f"its card says nothing of '{name}'" for name in gates.card if not told.get(name)]
    if champion is not None:
        reasons += _compared(gates, candidate, champion)
    elif gates.metric and gates.metric not in candidate.metrics:
        reasons.append(f"it was pushed without the metric '{gates.metric}'")
    return [one for one in reasons if one]


def _compared(gates: Gates, candidate: Candidate, champion: Candidate) -> list[str]:
    reasons = []
    if gates.same_signature and candidate.facts.get("signature") != champion.facts.get("signature"):
        reasons.append("its inputs or outputs are not those of the version that answers")
    mine, other = candidate.facts.get("p50_us"), champion.facts.get("p50_us")
    if gates.max_slower is not None and mine and other and mine > gates.max_slower * other:
        reasons.append(
            f"a run takes {mine / other:.2f} times as long as the answering version's; {gates.max_slower:g} may"
        )
    if gates.metric:
        reasons += _beats(gates, candidate.metrics.get(gates.metric), champion.metrics.get(gates.metric))
    return reasons


def _beats(gates: Gates, mine: Any, other: Any) -> list[str]:
    if mine is None:
        return [f"it was pushed without the metric '{gates.metric}'"]
    if other is None:
        return []  # nothing to be held against
    ahead = (other - mine) if gates.lower else (mine - other)
    if ahead >= gates.by:
        return []
    return [f"its {gates.metric} is {mine:g}, the answering version's {other:g}; a margin of {gates.by:g} is asked"]


def _above(what: str, value: Any, limit: float | None, unit: str) -> str:
    return (
        f"{what} {value:g} {unit}; {limit:g} may" if limit is not None and value is not None and value > limit else ""
    )


_NUMBERS = ("max_bytes", "max_memory_bytes", "max_run_us", "max_slower")


def gates_in(stated: Any, path: str, faults: list[str]) -> Gates:
    """Gates from what an operator wrote; every fault is added to ``faults`` with the path of what is wrong."""
    if not isinstance(stated, dict):
        faults.append(f"'{path}' is an object")
        return Gates()
    faults += [
        f"'{path}.{word}' is no gate" for word in sorted(set(stated) - {*_NUMBERS, "same_signature", "card", "beats"})
    ]
    values: dict[str, Any] = {}
    for word in _NUMBERS:
        if word in stated:
            values[word] = stated[word]
            if type(stated[word]) not in (int, float) or stated[word] <= 0:
                faults.append(f"'{path}.{word}' is a number above 0")
    same, card = stated.get("same_signature", True), stated.get("card", [])
    if type(same) is not bool:
        faults.append(f"'{path}.same_signature' is true or false")
    if not isinstance(card, list) or not all(isinstance(one, str) for one in card):
        faults.append(f"'{path}.card' is a list of fields of the model card")
        card = []
    beats = stated.get("beats", {})
    if not isinstance(beats, dict) or set(beats) - {"metric", "by", "lower"} or (beats and not _sound(beats)):
        faults.append(f"'{path}.beats' has a metric, a margin (by), and lower: true where less is better")
        beats = {}
    return Gates(**values, same_signature=bool(same), card=tuple(card), **beats)


def _sound(beats: Document) -> bool:
    by = beats.get("by", 0.0)
    named = isinstance(beats.get("metric"), str) and bool(beats["metric"])
    return named and type(by) in (int, float) and type(beats.get("lower", False)) is bool
