"""Prepares an explanation on a thread: the rows as a matrix, the background, and the exact models."""

from collections.abc import Generator
from dataclasses import dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from penstock.core.bins import Floats
from penstock.core.errors import InvalidInput
from penstock.core.explanations import (
    ExplanationOptions,
    check_columns,
    check_size,
    choose_output,
)
from penstock.core.signature import TensorSpec
from penstock.core.slices import Pacer, PauseWork
from penstock.core.tensors import Tensor
from penstock.serving.explanations.background import choose_background
from penstock.serving.explanations.exact_models import ExactModels, PreparedBackground, prepare
from penstock.serving.explanations.row_matrix import RowMatrix
from penstock.serving.loaded_version import LoadedVersion

if TYPE_CHECKING:
    from penstock.explain.budgets import Method
    from penstock.explain.exact import ExactExplainer
    from penstock.explain.methods import Explanation

Steps = Generator[Floats, Floats, "Explanation"]
"""Yields rows [rows, features] to run, and receives their outputs [rows, columns]."""

CHUNK_NS: Final = 10_000_000
"""Time of the runs of the rows that a method asks for at a time; the deadline is looked at in between."""

GROWTH: Final = 16
"""Live rows more after which a background is chosen anew, as long as there are few."""

MOST_CHUNK_ROWS: Final = 512
MOST_EVALUATED: Final = 60_000
"""Rows that one explanation may run, however much time it has."""

_METHODS: Final[dict[str, "Method"]] = {
    "auto": "auto",
    "exact": "exact",
    "enumeration": "enumeration",
    "permutation": "permutation",
}


class VersionExplanations:
    """What the explanations of a version keep: its exact models, and the background that was prepared last. One thread
    at a time uses it."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self.loaded = loaded
        self._exact = ExactModels(loaded)
        self._last: PreparedBackground | None = None

    def background(
        self,
        matrix: RowMatrix,
        output: TensorSpec,
        options: ExplanationOptions,
        pause: PauseWork,
        other: LoadedVersion | None = None,
    ) -> PreparedBackground:
        """Return the background with the exact explainer for it, the rows of the ``other`` version if there are none of
        this one; raises ``NotReady`` without rows."""
        shapes = tuple(part.shape for part in matrix.parts)
        live = _live_count(self.loaded), other and (other.identity.version, _live_count(other))
        key = output.name, options.background, options.seed, shapes, _is_wanted(options), live
        last = self._last
        if last is not None and last.serves(key):
            return last
        chosen = choose_background(self.loaded, matrix, options.background, options.seed, other)
        explainer = self.explainer(matrix, output, options, chosen.rows, pause)
        made = PreparedBackground(key, chosen.rows, chosen.source, explainer)
        if matrix.is_numeric:  # texts are numbered anew for each request
            self._last = made
        return made

    def explainer(
        self, matrix: RowMatrix, output: TensorSpec, options: ExplanationOptions, rows: Floats, pause: PauseWork
    ) -> "ExactExplainer | str":
        """Return the exact explainer of an output for these background rows, or why there is none."""
        if not _is_wanted(options):
            return f"the method '{options.method}' was asked for"
        return prepare(self._exact.find(output.name, pause), matrix, rows, pause)


def _live_count(loaded: LoadedVersion) -> int:
    """Return how many live rows a version has, in steps of ``GROWTH``."""
    return 0 if loaded.live_rows is None else len(loaded.live_rows) // GROWTH


def _is_wanted(options: ExplanationOptions) -> bool:
    return options.method in ("auto", "exact")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An explanation that is ready to run: its steps, and what has to be known to run them and to answer. ``columns``
    are selected before the steps see an output, or after (``selects_after``)."""

    matrix: RowMatrix
    output: TensorSpec
    steps: Steps
    source: str
    background_rows: int
    columns: tuple[int, ...]
    selects_after: bool
    why_not_exact: str


def prepare_explanation(
    subject: VersionExplanations,
    other: VersionExplanations | None,
    inputs: list[Tensor],
    options: ExplanationOptions,
    deadline_ns: int,
) -> Prepared:
    """Return the explanation of the answer to these inputs, or of its difference to that of the ``other`` version. On a
    thread.

    Raises:
        Fault: the inputs or options are not possible, or there is no background.
    """
    pause, loaded = Pacer().pause, subject.loaded
    output = choose_output(loaded.signature.outputs, options.output)
    matrix = RowMatrix(loaded.signature, inputs, loaded.input_columns)
    rows = matrix.encode({tensor.name: tensor.data for tensor in inputs})
    if rows is None:
        raise InvalidInput("there is nothing to explain; send at least one row with one value")
    check_size(len(rows), len(matrix.features), len(options.columns) or 1)
    against = None if other is None else other.loaded
    background = subject.background(matrix, output, options, pause, against)
    first = None if other is None else other.explainer(matrix, output, options, background.rows, pause)
    why = _explain_difference(background.explainer, first)
    if why and options.method == "exact":
        raise InvalidInput(f"there is no exact explanation: {why}; use the method 'auto'")
    explainers = _choose_explainers(background.explainer, first, why)
    if explainers is not None:
        check_size(len(rows), len(matrix.features), len(options.columns) or explainers[0].outputs)
        check_columns(options.columns, explainers[0].outputs)
    steps = _choose_steps(rows, background.rows, explainers, other is not None, options, loaded.row_ns, deadline_ns)
    after = explainers is not None
    count = len(background.rows)
    return Prepared(matrix, output, steps, background.source, count, options.columns, after, why)


def _explain_difference(own: "ExactExplainer | str", first: "ExactExplainer | str | None") -> str:
    """Return why an explanation is not exact, "" if it is."""
    return next((item for item in (own, first) if isinstance(item, str)), "")


def _choose_explainers(
    own: "ExactExplainer | str", first: "ExactExplainer | str | None", why: str
) -> "list[ExactExplainer] | None":
    return None if why else [item for item in (own, first) if item is not None and not isinstance(item, str)]


def _choose_steps(
    rows: Floats,
    background: Floats,
    explainers: "list[ExactExplainer] | None",
    is_difference: bool,
    options: ExplanationOptions,
    row_ns: int,
    deadline_ns: int,
) -> Steps:
    from penstock.explain.budgets import ExplainOptions  # noqa: PLC0415 - on the thread, not the event loop
    from penstock.explain.methods import explain_difference_steps, explain_steps  # noqa: PLC0415 - the same

    wanted = ExplainOptions(
        method=_METHODS[options.method],
        seed=options.seed,
        max_rows=MOST_EVALUATED,
        chunk_rows=max(1, min(MOST_CHUNK_ROWS, CHUNK_NS // row_ns)),
        deadline_ns=deadline_ns,
        clock=monotonic_ns,
        pause=Pacer().pause,
    )
    if is_difference:
        second, first = explainers or (None, None)
        return explain_difference_steps(second, first, rows, background, wanted)
    return explain_steps(explainers[0] if explainers else None, rows, background, wanted)
