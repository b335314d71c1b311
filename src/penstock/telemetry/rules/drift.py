"""Recording rules of drift: from the counts of all gateways, distances of the last five minutes from the reference.

Counts add up, so the results equal those of one gateway with all the traffic. Differences are exact where ``rate()``
would guess at the ends; a counter that began anew counts from zero.
"""

from collections.abc import Iterator

from penstock.telemetry import metrics
from penstock.telemetry.metric import Metric
from penstock.telemetry.promql import max_by, select, sum_by
from penstock.telemetry.rules.rule import Recording

WINDOW = "5m"

SIDES = (
    ("feature", metrics.FEATURE_BINS, metrics.FEATURE_BELOW, metrics.FEATURE_REFERENCE),
    ("output", metrics.OUTPUT_BINS, metrics.OUTPUT_BELOW, metrics.OUTPUT_REFERENCE),
)
"""Inputs and outputs: the label of a column, its counts, its cumulative counts, and the shares of its reference."""

_BELOW_REFERENCE = {"feature": metrics.FEATURE_BELOW_REFERENCE, "output": metrics.OUTPUT_BELOW_REFERENCE}


def drift_recordings() -> list[Recording]:
    """Return the rules of features and outputs."""
    return [
        rule
        for side, bins, below, reference in SIDES
        for rule in (*_record_counts(side, bins, below, reference), *_record_distances(side))
    ]


def _record_counts(side: str, bins: Metric, below: Metric, reference: Metric) -> Iterator[Recording]:
    column = f"job, model, version, {side}"
    rows = f"penstock:{side}_bin:rows{WINDOW}"
    yield Recording(rows, _sum_rows(column, select(bins)))
    yield Recording(f"penstock:{side}_below:rows{WINDOW}", _sum_rows(column, select(below)))
    yield Recording(f"penstock:{side}:rows{WINDOW}", sum_by(column, rows))
    yield Recording(
        f"penstock:{side}_bin:share{WINDOW}",
        f"({rows} + 0.5)\n/ ignoring (bin) group_left\n{sum_by(column, f'{rows} + 0.5')}\n",
    )
    yield Recording(f"penstock:{side}_bin:reference", max_by(f"{column}, bin", select(reference)))


def _sum_rows(column: str, counter: str) -> str:
    """Return the rows in each bin; 0.5 is added later so that no share is 0."""
    return (
        f"sum by ({column}, bin) (\n"
        f"  ({counter} - ({counter} offset {WINDOW} or {counter} * 0)) >= 0\n"
        f"  or {counter}\n)\n"
    )


def _record_distances(side: str) -> Iterator[Recording]:
    column = f"job, model, version, {side}"
    share, reference = f"penstock:{side}_bin:share{WINDOW}", f"penstock:{side}_bin:reference"
    yield Recording(
        f"penstock:{side}:psi{WINDOW}",
        f"sum by ({column}) (\n  ({share} - {reference})\n  * ln({share} / {reference})\n)\n",
    )
    yield Recording(f"penstock:{side}:tvd{WINDOW}", f"{sum_by(column, f'abs({share} - {reference})')} / 2")
    overlap = sum_by(column, f"sqrt({share} * {reference})")
    yield Recording(f"penstock:{side}:hellinger{WINDOW}", f"sqrt(clamp_min(1 - {overlap}, 0))")
    below = f"penstock:{side}_below:rows{WINDOW} / ignoring (bin) group_left penstock:{side}:rows{WINDOW}"
    expected = max_by(f"{column}, bin", select(_BELOW_REFERENCE[side]))
    yield Recording(f"penstock:{side}:ks{WINDOW}", f"max by ({column}) (abs(\n  {below}\n  - {expected}\n))\n")
