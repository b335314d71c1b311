"""Whether calls of different callers may share a run of a model, and the cost of such a run.

The graph proves it, or the model's owner says so; a trial with synthetic rows is a second check, never the proof.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np

from penstock.core.batching import RowProof, RunCost, fit_cost
from penstock.core.errors import Fault
from penstock.core.options import ModelOptions
from penstock.core.signature import Feeds, Signature
from penstock.core.tensors import Array
from penstock.engine import warmup
from penstock.engine.graph import GraphInterface

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Relative tolerance: matrix products of several rows add up in a different order than those of one."""

ROUGH = 1e-2
"""Tolerance relative to the largest number of a row: large numbers may cancel to results of about this size."""

TRIAL_BUDGET_NS = 500_000_000
"""Maximum time of the trials after the first one, as far as the first one predicts it."""

MEASURING_BUDGET_NS = 250_000_000

HOW_TO_ALLOW = (
    'if its rows are independent, say so in its configuration: parameters { key: "independent_rows" '
    'value: { string_value: "true" } }'
)

Attempt = Callable[[Feeds], list[Array]]
"""Runs a graph for all of its outputs."""


class RowsDiffer(Exception):
    """A trial in which rows got different answers together than alone; the text says how, after "in a trial"."""


def find_refusal(graph: GraphInterface, signature: Signature, options: ModelOptions, proof: RowProof) -> str:
    """Return why no trial can justify batch runs of a model, "" if one can."""
    if not signature.batching:
        return "not all of its inputs and outputs have a free first dimension for the rows"
    if signature.max_batch_size == 1:
        return "its configuration states max_batch_size 1"
    if options.independent_rows is False:
        return "its configuration says that rows depend on each other"
    replaced = {tensor.name for tensor in graph.overridable} & {spec.name for spec in signature.inputs}
    if options.independent_rows:
        return f"an output need not have one row for each row of the inputs: {proof.reason}" if proof.rows_vary else ""
    if proof.independent and replaced:
        return f"input '{min(replaced)}' takes the place of a constant; {HOW_TO_ALLOW}"
    return "" if proof.independent else f"{proof.reason}; {HOW_TO_ALLOW}"


def run_trial(attempt: Attempt, signature: Signature, rows: int) -> RunCost:
    """Return the cost of runs with several rows.

    Raises:
        RowsDiffer: rows got different answers together than alone, or not one each, or there are no synthetic rows.
    """
    rows = min(rows, signature.max_batch_size or rows)
    began_ns = time.perf_counter_ns()
    try:
        feeds = signature.bind(warmup.random_tensors(signature, rows)).feeds
        alone = _split_rows(feeds, rows)
        difference = describe_difference(attempt(feeds), [attempt(item) for item in alone], [1] * rows)
    except (Fault, MemoryError, ValueError):
        raise RowsDiffer("no synthetic rows were answered together") from None
    if difference:
        raise RowsDiffer(difference)
    _try_variants(attempt, signature, rows, time.perf_counter_ns() - began_ns)
    one_ns = warmup.median_run_ns(lambda: attempt(alone[0]), MEASURING_BUDGET_NS)
    all_ns = warmup.median_run_ns(lambda: attempt(_join_rows(alone)), MEASURING_BUDGET_NS)
    return fit_cost(rows, one_ns, all_ns)


def _try_variants(attempt: Attempt, signature: Signature, rows: int, each_ns: int) -> None:
    """Numbers of other sizes and other free dimensions, as far as there is time; those it does not accept show nothing.
    ``each_ns`` is what a trial takes.

    Raises:
        RowsDiffer: as ``run_trial``.
    """
    until_ns = time.perf_counter_ns() + TRIAL_BUDGET_NS
    for name, feeds in _iterate_variants(signature, rows):
        if time.perf_counter_ns() + each_ns > until_ns:
            return
        try:
            parts = [attempt(row) for row in _split_rows(feeds, rows)]
        except (Fault, MemoryError, ValueError):
            continue
        if difference := _variant_difference(attempt, feeds, parts):
            raise RowsDiffer(f"{difference} ({name})")


def _variant_difference(attempt: Attempt, feeds: Feeds, parts: list[list[Array]]) -> str:
    try:
        return describe_difference(attempt(feeds), parts, [1] * len(parts), rough=True)
    except (Fault, MemoryError, ValueError):
        return "rows that were answered alone failed together"


def _iterate_variants(signature: Signature, rows: int) -> Iterator[tuple[str, Feeds]]:
    for name, tensors in warmup.varied_tensors(signature, rows):
        try:
            yield name, signature.bind(tensors).feeds
        except Fault:  # too large, or of a shape that the configuration's reshape cannot take
            continue


def _split_rows(feeds: Feeds, rows: int) -> list[Feeds]:
    return [{name: array[row : row + 1] for name, array in feeds.items()} for row in range(rows)]


def _join_rows(apart: Sequence[Feeds]) -> Feeds:
    """Return several requests as one; for large rows, joining costs more than the run."""
    return {name: np.concatenate([item[name] for item in apart]) for name in apart[0]}


def describe_difference(
    together: Sequence[Array], apart: Sequence[Sequence[Array]], rows: Sequence[int], rough: bool = False
) -> str:
    """Return how the outputs of a run differ from those of the runs of its parts, "" if they do not; ``rows`` are the
    rows of each part, in order. ``rough`` measures the differences of a part's numbers by its largest number."""
    for index, whole in enumerate(together):
        parts = [outputs[index] for outputs in apart]
        if not _has_rows(whole, sum(rows), whole) or not all(map(_has_rows, parts, rows, [whole] * len(rows))):
            return "an output did not have one row for each row of the inputs"
        ends = list(accumulate(rows))
        if not all(
            _is_same(whole[end - number : end], part, rough)
            for part, number, end in zip(parts, rows, ends, strict=True)
        ):
            return "rows got different answers together than alone"
    return ""


def _has_rows(array: Array, number: int, like: Array) -> bool:
    return array.shape[:1] == (number,) and array.shape[1:] == like.shape[1:]


def _is_same(rows: Array, alone: Array, rough: bool) -> bool:
    if alone.dtype.kind not in "fc":
        return bool((rows == alone).all())
    largest = float(np.max(np.abs(alone), initial=0, where=np.isfinite(alone))) if rough else 0.0
    relative = ROUGH if rough else RELATIVE
    with np.errstate(over="ignore", invalid="ignore"):
        return np.allclose(rows, alone, rtol=relative, atol=max(ABSOLUTE, ROUGH * largest), equal_nan=True)
