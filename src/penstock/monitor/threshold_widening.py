"""Explains which drift thresholds are wider than those for a large reference and independent rows."""

from collections.abc import Sequence
from typing import Any

from penstock.core.statistics.change_detection import NEGLIGIBLE
from penstock.monitor.reference import Reference

EVIDENCE, EFFECT_SIZES = "evidence", ("psi", "ks", "chi_square")

REPORTED_INFLATION = 1.05
"""A variance inflation up to this is not reported."""


def widening_reasons(
    reference: Reference, sampling: Sequence[float], seasonal_variation: Sequence[float], inflation: float
) -> list[Any]:
    """Return each reason with the thresholds that it widens.

    ``sampling`` and ``seasonal_variation`` are the nats for each row that are tolerated of each column, because the
    reference is a sample and because its parts (or hours) differ. ``inflation`` is the variance inflation.
    """
    reasons: list[Any] = []
    largest = max(sampling, default=0.0)
    if reference.is_small or largest > NEGLIGIBLE:
        why = f"the reference is a sample of {reference.rows} rows, so up to {largest:.4f} nats a row"
        reasons.append(_describe_reason((EVIDENCE, *EFFECT_SIZES), f"{why} of a column are its own error"))
    if max(seasonal_variation, default=0.0) > 0:
        why = f"parts of the reference differ from all of it by up to {max(seasonal_variation):.4f} nats a row"
        reasons.append(_describe_reason((EVIDENCE, "psi"), why))
    if inflation > REPORTED_INFLATION:
        why = f"rows follow each other, so {inflation:.1f} of them are worth one"
        reasons.append(_describe_reason((EVIDENCE, *EFFECT_SIZES), why))
    return reasons


def _describe_reason(thresholds: Sequence[str], why: str) -> dict[str, Any]:
    return {"thresholds": list(thresholds), "why": why}
