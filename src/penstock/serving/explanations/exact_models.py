"""The exact models of one version: read from its graph at the first explanation, and prepared for a background."""

from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from penstock.core.bins import Floats
from penstock.core.slices import PauseWork
from penstock.serving.explanations.row_matrix import RowMatrix
from penstock.serving.explanations.text_values import prepare_for
from penstock.serving.loaded_version import LoadedVersion

if TYPE_CHECKING:
    from penstock.explain.exact import ExactExplainer, ExactModel

FRESH_NS: Final = 60_000_000_000
"""Time for which a background stays the same, so that it is prepared once for many explanations."""

NO_GRAPH: Final = "the graph of the version cannot be read here"


class ExactModels:
    """The exact models of a version by output, or why there is none; one thread at a time uses it."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self._loaded = loaded
        self._models: dict[str, ExactModel | str] = {}

    def find(self, output: str, pause: PauseWork) -> "ExactModel | str":
        """Return the exact model of an output, or a sentence that says why there is none."""
        if output not in self._models:
            self._models[output] = self._read(output, pause)
        return self._models[output]

    def _read(self, output: str, pause: PauseWork) -> "ExactModel | str":
        from penstock.explain.graphs import read_exact_model  # noqa: PLC0415 - on the thread, not the event loop
        from penstock.explain.model_file import UnreadableGraph, read_graph  # noqa: PLC0415 - the same
        from penstock.explain.nodes import NotExact  # noqa: PLC0415 - the same

        data = self._loaded.read_graph()
        if not data:
            return NO_GRAPH
        try:
            return read_exact_model(read_graph(data, pause), output)
        except UnreadableGraph:
            return NO_GRAPH
        except NotExact as reason:
            return str(reason)


def prepare(
    model: "ExactModel | str", matrix: RowMatrix, background: Floats, pause: PauseWork
) -> "ExactExplainer | str":
    """Return an exact model that is prepared for a background of a matrix, or why it cannot be."""
    from penstock.explain.nodes import NotExact  # noqa: PLC0415 - on the thread, not the event loop

    if isinstance(model, str):
        return model
    try:
        return prepare_for(model, matrix, background, pause)
    except NotExact as reason:
        return str(reason)


class PreparedBackground:
    """The background that the explanations of a version use for a while, with what is prepared for it."""

    __slots__ = ("explainer", "key", "made_ns", "rows", "source")

    def __init__(self, key: object, rows: Floats, source: str, explainer: "ExactExplainer | str") -> None:
        self.key = key
        self.rows = rows
        self.source = source
        self.explainer = explainer
        self.made_ns = monotonic_ns()

    def serves(self, key: object) -> bool:
        """Whether it is that of these choices, and fresh."""
        return self.key == key and monotonic_ns() - self.made_ns < FRESH_NS
