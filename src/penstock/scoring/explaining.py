"""Explains scored rows: the features that add most to each row's answer, exactly where the graph allows it."""

from collections.abc import Generator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import Floats
from penstock.core.errors import Unsupported
from penstock.core.explanations import BACKGROUND_ROWS
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, Tensor
from penstock.explain.budgets import ExplainOptions
from penstock.explain.exact import ExactExplainer
from penstock.explain.graphs import read_exact_model
from penstock.explain.methods import Explanation, explain_steps
from penstock.explain.model_file import UnreadableGraph, read_graph
from penstock.explain.nodes import NotExact
from penstock.monitor.columns import input_columns
from penstock.monitor.reference import decode_reference
from penstock.monitor.reference_rows import draw_rows
from penstock.scoring.drift import check_reference
from penstock.scoring.rows import ScoringRunner
from penstock.scoring.versions import VersionContent, read_verified_graph
from penstock.serving.explanations.row_matrix import RowMatrix
from penstock.serving.explanations.text_values import for_matrix

ROWS_AT_ONCE: Final = 256
"""Rows that are explained together."""

MOST_RUN: Final = 1 << 30
"""Rows that may be run for one explanation: a file has no deadline."""

FEATURE, ATTRIBUTION = "feature_", "attribution_"

Texts = NDArray[Any]


class RowExplainer:
    """Explains the rows of one version against rows drawn from its reference. Any thread may call it.

    Of an output with several values, the greatest of each row is explained. An output that the graph allows to compute
    exactly is explained on its margin, others on its values by sampling.
    """

    def __init__(self, content: VersionContent, runner: ScoringRunner, most: int, seed: int = 0) -> None:
        """Prepare the background.

        Raises:
            NotFound: the version has no reference.
            Unsupported: its inputs have no column for each value, or no output is of numbers.
        """
        self._runner, self._most, self._seed = runner, most, seed
        reference = decode_reference(check_reference(content.reference, content.title))
        signature = runner.signature
        self._output = _explained_output(signature)
        columns = input_columns(signature.inputs, signature.batching, content.features)
        drawn = draw_rows(reference, columns, BACKGROUND_ROWS, seed)
        if drawn is None:
            raise Unsupported("only models with a column for each value of their inputs can be explained")
        self._columns, self._drawn = columns, drawn
        matrix, background = self._numbered()
        self._exact = _exact_explainer(content, self._output.name, matrix.values(background))

    def _numbered(self) -> tuple[RowMatrix, Floats]:
        """Return a matrix, and the background in it. Every call has its own, which numbers the texts of its rows only.

        Raises:
            Unsupported: the reference does not fit.
        """
        signature = self._runner.signature
        examples = [Tensor(spec.name, spec.datatype, self._drawn[spec.name][:1]) for spec in signature.inputs]
        matrix = RowMatrix(signature, _shape_rows(examples, signature), self._columns)
        background = matrix.encode(self._drawn)
        if background is None:
            raise Unsupported("the reference does not fit the inputs of the model")
        return matrix, background

    @property
    def method(self) -> str:
        """Return whether explanations are ``exact`` or ``sampled``."""
        return "sampled" if self._exact is None else "exact"

    def explain(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the names of the features that add most to each row, and what they add, as outputs [rows, most]."""
        matrix, background = self._numbered()
        rows = matrix.encode({tensor.name: tensor.data for tensor in inputs})
        if rows is None:
            raise Unsupported("the rows do not fit the inputs of the model")
        starts = range(0, len(rows), ROWS_AT_ONCE)
        parts = [self._explain(matrix, background, rows[start : start + ROWS_AT_ONCE]) for start in starts]
        names, values = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        return [
            tensor
            for place in range(values.shape[1])
            for tensor in (
                Tensor(f"{FEATURE}{place + 1}", "BYTES", names[:, place]),
                Tensor(f"{ATTRIBUTION}{place + 1}", "FP64", np.ascontiguousarray(values[:, place])),
            )
        ]

    def _explain(self, matrix: RowMatrix, background: Floats, rows: Floats) -> tuple[Texts, Floats]:
        options = ExplainOptions(seed=self._seed, max_rows=MOST_RUN)
        exact = None if self._exact is None else for_matrix(self._exact, matrix)
        found = self._run(explain_steps(exact, rows, background, options), matrix)
        chosen = found.prediction.argmax(axis=1)
        shares: Floats = found.attributions[np.arange(len(rows)), :, chosen]
        return top_features(shares, matrix.features, self._most)

    def _run(self, steps: "Generator[Any, Any, Explanation]", matrix: RowMatrix) -> Explanation:
        """Run the rows that an explanation asks for."""
        try:
            wanted = next(steps)
            while True:
                outputs = {item.name: item.data for item in self._runner.run(matrix.decode(wanted))}
                found = outputs[self._output.name]
                wanted = steps.send(found.reshape(len(found), -1).astype(np.float64))
        except StopIteration as end:
            explanation: Explanation = end.value
            return explanation


def top_features(shares: Floats, names: Sequence[str], most: int) -> tuple[Texts, Floats]:
    """Return the names [rows, most] and shares of the features with the greatest absolute shares, the greatest first;
    of equal ones the first."""
    order = np.argsort(-np.abs(shares), axis=1, kind="stable")[:, :most]
    known = np.array(list(names), object)
    return known[order], np.take_along_axis(shares, order, axis=1)


def _explained_output(signature: Signature) -> TensorSpec:
    """Return the output of scores or numbers: of several, the first with floating-point numbers."""
    found = next((spec for spec in signature.outputs if spec.datatype in ("FP16", "FP32", "FP64")), None)
    if found is None:
        raise Unsupported("only models with an output of floating-point numbers can be explained")
    return found


def _shape_rows(examples: Sequence[Tensor], signature: Signature) -> list[Tensor]:
    """Return rows in the shapes of the inputs."""
    shapes = {spec.name: spec.shape[1:] for spec in signature.inputs}
    return [
        Tensor(item.name, item.datatype, item.data.reshape(len(item.data), *shapes[item.name])) for item in examples
    ]


def _exact_explainer(content: VersionContent, output: str, background: Array) -> ExactExplainer | None:
    """Return what explains an output exactly against real values [rows, features], None if the graph does not allow
    it."""
    try:
        return read_exact_model(read_graph(read_verified_graph(content)), output).prepare(background)
    except (NotExact, UnreadableGraph):
        return None
