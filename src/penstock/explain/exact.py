"""What an exact model can do, whatever its kind: be prepared for a background, and explain rows."""

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from penstock.core.slices import PauseWork, no_pause
from penstock.explain.nodes import Floats


@dataclass(frozen=True, slots=True)
class ShapleyValues:
    """Shapley values [rows, features, outputs], what they are added to [outputs], and the sums [rows, outputs]."""

    attributions: Floats
    base_value: Floats
    prediction: Floats


class ExactExplainer(Protocol):
    """A model with a background; immutable, so threads may share it."""

    @property
    def method(self) -> str:
        """The kind of model: "tree" or "linear"."""

    @property
    def links(self) -> tuple[str, ...]:
        """What turns the explained margin into the answer, in order; empty if the answer itself is explained."""

    @property
    def outputs(self) -> int:
        """The number of outputs that are explained."""

    @property
    def features(self) -> int:
        """The number of features of a row."""

    @property
    def memory_bytes(self) -> int:
        """What is kept."""

    @property
    def background_prediction(self) -> Floats:
        """The sums for the rows of the background [rows, outputs]."""

    def tolerances(self, rows: NDArray[Any]) -> Floats:
        """Return how far the runtime's sums, in its precision, may be from ours [rows, 1]."""

    def explain(self, rows: NDArray[Any], pause: PauseWork = no_pause) -> ShapleyValues:
        """Return the Shapley values of rows [rows, features]; ``pause`` is called between slices of work."""


class ExactModel(Protocol):
    """A model whose Shapley values can be computed from its graph."""

    @property
    def links(self) -> tuple[str, ...]:
        """What turns the explained margin into the answer, in order."""

    def prepare(self, background: NDArray[Any], pause: PauseWork = no_pause) -> ExactExplainer:
        """Return what explains rows against a background [rows, features]; raises ``NotExact`` if that needs too much
        memory or time."""
