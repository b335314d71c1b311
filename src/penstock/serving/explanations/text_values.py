"""Shows exact models real texts: in the matrix of an explanation, a text is the number of its place in a list."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.bins import Floats
from penstock.core.slices import PauseWork, no_pause
from penstock.serving.explanations.row_matrix import RowMatrix

if TYPE_CHECKING:
    from penstock.explain.exact import ExactExplainer, ExactModel, ShapleyValues


def prepare_for(
    model: "ExactModel", matrix: RowMatrix, background: Floats, pause: PauseWork = no_pause
) -> "ExactExplainer":
    """Return an exact model that is prepared for a background [rows, features] of a matrix; raises ``NotExact``."""
    return for_matrix(model.prepare(matrix.values(background), pause), matrix)


def for_matrix(explainer: "ExactExplainer", matrix: RowMatrix) -> "ExactExplainer":
    """Return an explainer of real values as one of the rows of a matrix."""
    return explainer if matrix.is_numeric else TextExplainer(explainer, matrix)


@dataclass(frozen=True, slots=True)
class TextExplainer:
    """An ``ExactExplainer`` whose rows [rows, features] are numbers of texts in a matrix."""

    own: "ExactExplainer"
    matrix: RowMatrix

    @property
    def method(self) -> str:
        """See ``ExactExplainer``."""
        return self.own.method

    @property
    def links(self) -> tuple[str, ...]:
        """See ``ExactExplainer``."""
        return self.own.links

    @property
    def outputs(self) -> int:
        """See ``ExactExplainer``."""
        return self.own.outputs

    @property
    def features(self) -> int:
        """See ``ExactExplainer``."""
        return self.own.features

    @property
    def memory_bytes(self) -> int:
        """See ``ExactExplainer``."""
        return self.own.memory_bytes

    @property
    def background_prediction(self) -> Floats:
        """See ``ExactExplainer``."""
        return self.own.background_prediction

    def tolerances(self, rows: Floats) -> Floats:
        """See ``ExactExplainer``."""
        return self.own.tolerances(self.matrix.values(rows))

    def explain(self, rows: Floats, pause: PauseWork = no_pause) -> "ShapleyValues":
        """See ``ExactExplainer``."""
        return self.own.explain(self.matrix.values(rows), pause)
