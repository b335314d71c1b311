"""Which thresholds of drift are wider than those of a large reference and independent rows, and why."""

from collections.abc import Sequence
from typing import Any

from penstock.core.statistics.change_detection import NEGLIGIBLE
from penstock.monitor.reference import Reference

EVIDENCE, EFFECT_SIZES = "evidence", ("psi", "ks", "chi_square")

TOLD = 1.05
"""Inflations below this are not told of."""


def widened(reference: Reference, sampling: Sequence[float], wander: Sequence[float], inflation: float) -> list[Any]:
    """Each reason with the thresholds that it widens.

    ``sampling`` and ``wander`` are the nats a row that are forgiven of each column, because the reference is a sample
    and because its own chunks (or hours) differ; ``inflation`` is how many rows are worth one.
    """
    found: list[Any] = []
    if reference.is_small or max(sampling, default=0.0) > NEGLIGIBLE:
        why = (
            f"the reference is a sample of {reference.rows} rows, so up to {max(sampling, default=0.0):.4f} nats a row"
        )
        found.append(_reason((EVIDENCE, *EFFECT_SIZES), f"{why} of a column are its own error"))
    if max(wander, default=0.0) > 0:
        why = f"parts of the reference differ from all of it by up to {max(wander):.4f} nats a row"
        found.append(_reason((EVIDENCE, "psi"), why))
    if inflation > TOLD:
        why = f"rows follow each other, so {inflation:.1f} of them are worth one"
        found.append(_reason((EVIDENCE, *EFFECT_SIZES), why))
    return found


def _reason(thresholds: Sequence[str], why: str) -> dict[str, Any]:
    return {"thresholds": list(thresholds), "why": why}
