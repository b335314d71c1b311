"""Explains rows: exact from the graph, by all coalitions, or by sampled orders; without I/O.

A method is a generator: it yields rows to run and receives their outputs, so that a server can run them as it runs
other work, and a script in a loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import DeadlineExceeded, InvalidInput, Unsupported
from penstock.explain.budgets import ExplainOptions, RowRunner, Rows, Steps
from penstock.explain.coalitions import MOST_ENUMERATED
from penstock.explain.exact import ExactExplainer, ShapleyValues
from penstock.explain.links import apply_links
from penstock.explain.nodes import Floats, NotExact
from penstock.explain.sampling import SampledValues, enumerate_steps, permute_steps

ROWS_TOGETHER = 8
"""Rows that are explained exactly between two looks at the clock."""

NOT_EQUAL = "the runtime answers otherwise than the graph's trees or weights add up to"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each feature adds: ``base_value + attributions.sum(axis=1)`` is the prediction, on the stated scale.

    ``attributions`` and ``error`` (standard error; 0 where exact) are [n, features, outputs], ``base_value`` [outputs],
    ``prediction`` [n, outputs]. ``method``: "tree", "linear", "exact" (a difference of both), "enumeration" or
    "permutation". ``scale``: "margin" (before the links), "probability" or "value". ``evaluated_rows``: rows that were
    run; ``background_rows``: rows of the background that count; ``note``: why not the method that was hoped for.
    """

    attributions: Floats
    base_value: Floats
    prediction: Floats
    error: Floats
    method: str
    exact: bool
    scale: str
    evaluated_rows: int
    background_rows: int
    note: str = ""


def explain_steps(
    explainer: ExactExplainer | None, rows: Rows, background: Rows, options: ExplainOptions
) -> Steps[Explanation]:
    """Explain rows [n, features] against a background [b, features].

    An exact explainer is compared with the runtime on rows and background first; if they differ, the answer is sampled
    and its note says so. Raises ``InvalidInput`` if rows and background do not fit or the budget is too small,
    ``DeadlineExceeded`` if time ends before an error is known, ``Unsupported`` if an exact answer is asked for and not
    possible.
    """
    check_rows(rows, background)
    runner = RowRunner(options)
    if explainer is None or options.method not in {"auto", "exact"}:
        return (yield from _sample_steps(runner, rows, background, options, ""))
    outputs = yield from runner.run(np.concatenate([rows, background]))
    try:
        shares = explain_in_time(explainer, rows, options)
    except NotExact as reason:
        return (yield from _sample_steps(runner, rows, background, options, str(reason)))
    if not agrees_with_runtime(explainer, shares, outputs, rows, background):
        return (yield from _sample_steps(runner, rows, background, options, NOT_EQUAL))
    scale = "margin" if explainer.links else options.output_scale
    return _make_exact(shares, explainer.method, scale, runner.rows, len(background))


def explain_difference_steps(
    second: ExactExplainer | None,
    first: ExactExplainer | None,
    rows: Rows,
    background: Rows,
    options: ExplainOptions,
) -> Steps[Explanation]:
    """Explain the second model's answers minus the first's.

    The outputs that are sent are those of both side by side [m, 2 * outputs], the second's first. Exact if both models
    are, with equal links; otherwise differences of answers are sampled, both models on the same rows. Raises as
    ``explain_steps``.
    """
    check_rows(rows, background)
    runner = RowRunner(options)
    note = ""
    if second is not None and first is not None and options.method in {"auto", "exact"}:
        note = _why_not_comparable(second, first)
        if not note:
            outputs = yield from runner.run(np.concatenate([rows, background]))
            found = _explain_difference(second, first, rows, background, outputs, options)
            if found is not None:
                return _make_exact(*found, runner.rows, len(background))
            note = NOT_EQUAL
    sampled = _sample_steps(runner, rows, background, options, note)
    return (yield from _map_steps(sampled, _second_minus_first))


def check_rows(rows: Rows, background: Rows) -> None:
    """Raise ``InvalidInput`` unless rows and background are matrices with as many features."""
    if rows.ndim != 2 or background.ndim != 2 or not len(rows) or not len(background):
        raise InvalidInput("an explanation needs a row and a background of at least one row")
    if rows.shape[1] != background.shape[1] or not rows.shape[1]:
        raise InvalidInput(f"the background has {background.shape[1]} features, the rows have {rows.shape[1]}")


def explain_in_time(explainer: ExactExplainer, rows: Rows, options: ExplainOptions) -> ShapleyValues:
    """Return the exact values, some rows at a time; raises ``DeadlineExceeded`` when the deadline has passed."""
    parts: list[ShapleyValues] = []
    for start in range(0, len(rows), ROWS_TOGETHER):
        if options.deadline_ns is not None and options.clock() > options.deadline_ns:
            raise DeadlineExceeded("the time was too short for an explanation; send fewer rows at once")
        parts.append(explainer.explain(rows[start : start + ROWS_TOGETHER], options.pause))
    attributions = np.concatenate([part.attributions for part in parts])
    return ShapleyValues(attributions, parts[0].base_value, np.concatenate([part.prediction for part in parts]))


def agrees_with_runtime(
    explainer: ExactExplainer, shares: ShapleyValues, outputs: Floats, rows: Rows, background: Rows
) -> bool:
    """Whether the runtime's outputs [rows and background, outputs] are what an exact explainer says, up to rounding."""
    expected = apply_links(np.concatenate([shares.prediction, explainer.background_prediction]), explainer.links)
    if outputs.shape != expected.shape:
        return False
    allowed = explainer.tolerances(np.concatenate([rows, background])) * np.maximum(1, np.abs(expected))
    return bool((np.abs(outputs - expected) <= allowed).all())


def _why_not_comparable(second: ExactExplainer, first: ExactExplainer) -> str:
    if second.links != first.links:
        return "the margins of the two versions are on different scales"
    return "" if second.outputs == first.outputs else "the two versions have different outputs"


def _explain_difference(
    second: ExactExplainer,
    first: ExactExplainer,
    rows: Rows,
    background: Rows,
    outputs: Floats,
    options: ExplainOptions,
) -> tuple[ShapleyValues, str, str] | None:
    """The difference, its method and its scale; None if a runtime answers otherwise."""
    one, other = explain_in_time(second, rows, options), explain_in_time(first, rows, options)
    of_second, of_first = np.hsplit(outputs, 2)
    if not (
        agrees_with_runtime(second, one, of_second, rows, background)
        and agrees_with_runtime(first, other, of_first, rows, background)
    ):
        return None
    shares = ShapleyValues(
        one.attributions - other.attributions, one.base_value - other.base_value, one.prediction - other.prediction
    )
    method = second.method if second.method == first.method else "exact"
    return shares, method, "margin" if second.links else "value"


def _make_exact(shares: ShapleyValues, method: str, scale: str, run: int, background: int) -> Explanation:
    nothing = np.zeros_like(shares.attributions)
    return Explanation(
        shares.attributions, shares.base_value, shares.prediction, nothing, method, True, scale, run, background
    )


def _sample_steps(
    runner: RowRunner, rows: Rows, background: Rows, options: ExplainOptions, note: str
) -> Steps[Explanation]:
    method = choose_method(rows, background, options, note)
    steps = enumerate_steps if method == "enumeration" else permute_steps
    found: SampledValues = yield from steps(runner, rows, background, options)
    return Explanation(
        found.attributions,
        found.base_value,
        found.prediction,
        found.error,
        method,
        found.complete,
        options.output_scale,
        runner.rows,
        found.background_rows,
        note,
    )


def choose_method(rows: Rows, background: Rows, options: ExplainOptions, note: str = "") -> str:
    """Return "enumeration" or "permutation"; raises ``Unsupported`` if the method that is asked for is not possible."""
    features = rows.shape[1]
    needed = len(rows) * len(background) * (2 ** min(features, 30) - 2) + len(rows) + len(background)
    possible = features <= MOST_ENUMERATED and needed <= options.max_rows
    if options.method == "exact" and not possible:
        raise Unsupported(f"there is no exact explanation within the budget: {note or 'the graph gives none'}")
    if options.method == "enumeration" and not possible:
        raise Unsupported(f"all coalitions of {features} features need {needed} evaluations; use another method")
    return "enumeration" if possible and options.method != "permutation" else "permutation"


def _map_steps(steps: Steps[Explanation], change: Callable[[Floats], Floats]) -> Steps[Explanation]:
    """The steps, with each output changed before they receive it."""
    try:
        wanted = next(steps)
        while True:
            outputs = yield wanted
            wanted = steps.send(change(np.asarray(outputs, dtype=np.float64)))
    except StopIteration as end:
        found: Explanation = end.value
        return replace(found, scale="value")


def _second_minus_first(outputs: Floats) -> Floats:
    second, first = np.hsplit(outputs.reshape(len(outputs), -1), 2)
    return second - first
