"""Exact Shapley values of weighted sums: the weight times the distance from the background's mean."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.slices import PauseWork, no_pause
from penstock.explain.exact import ShapleyValues
from penstock.explain.links import OutputMap
from penstock.explain.nodes import Floats, Integers, NotExact
from penstock.explain.transforms import InputTransforms


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Weighted sums of features (``sums``: matrix [features, outputs] and offset), what happens to inputs before them,
    and the links behind them."""

    sums: OutputMap
    transforms: InputTransforms
    links: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return len(self.sums.offset)

    def times(self, factor: Floats) -> "LinearModel":
        """Return the model with its outputs multiplied with a number, or with one for each."""
        return replace(self, sums=self.sums.times(factor))

    def plus(self, addend: Floats) -> "LinearModel":
        """Return the model with a number added to its outputs, or one to each."""
        return replace(self, sums=self.sums.plus(addend))

    def prepare(self, background: NDArray[Any], pause: PauseWork = no_pause) -> "LinearExplainer":
        """Return what explains rows against a background [rows, features]; ``pause`` is not needed.

        Raises ``NotExact`` if they do not fit.
        """
        features = background.shape[1]
        columns = self.transforms.trace(features)
        if len(columns) != len(self.sums.matrix):
            raise NotExact("the weights are of another number of features than rows have")
        return LinearExplainer(self, features, columns, self.transforms.apply(background).astype(np.float64))


@dataclass(frozen=True, slots=True)
class LinearExplainer:
    """Weighted sums, the feature of each column, and a background [rows, columns] after the transforms of inputs."""

    model: LinearModel
    features: int
    columns: Integers
    background: Floats

    @property
    def method(self) -> str:
        """The kind of model."""
        return "linear"

    @property
    def links(self) -> tuple[str, ...]:
        """What turns the explained margin into the answer, in order."""
        return self.model.links

    @property
    def outputs(self) -> int:
        """The number of outputs that are explained."""
        return len(self.model.sums.offset)

    @property
    def memory_bytes(self) -> int:
        """What is kept."""
        return self.model.sums.matrix.nbytes + self.background.nbytes

    @property
    def background_prediction(self) -> Floats:
        """The sums for the rows of the background [rows, outputs]."""
        return self.model.sums.apply(self.background)

    def tolerances(self, rows: NDArray[Any]) -> Floats:
        """How far the runtime's sums in single precision may be from ours [rows, 1]."""
        terms = np.abs(self.model.transforms.apply(rows).astype(np.float64)) @ np.abs(self.model.sums.matrix)
        return np.asarray(terms.max(axis=1, keepdims=True) * 1e-6 + 1e-5)

    def explain(self, rows: NDArray[Any], pause: PauseWork = no_pause) -> ShapleyValues:
        """Return the Shapley values of rows [rows, features]; ``pause`` is not needed."""
        inputs = self.model.transforms.apply(rows).astype(np.float64)
        mean = self.background.mean(axis=0)
        of_columns = (inputs - mean)[:, :, None] * self.model.sums.matrix
        attributions = np.einsum("rco,cf->rfo", of_columns, np.eye(self.features)[self.columns])
        return ShapleyValues(attributions, self.model.sums.apply(mean), self.model.sums.apply(inputs))
