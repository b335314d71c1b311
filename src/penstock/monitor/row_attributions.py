"""What a worker finds of some live rows: how large the attribution of each feature is."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.bins import Floats


@dataclass(frozen=True, slots=True)
class RowAttributions:
    """The sizes of the attributions of some rows [rows, features] (the mean over the columns of the output), with the
    names of the features, the output, the method and the scale; or the ``problem`` for which there are none."""

    features: Sequence[str] = ()
    sizes: Floats | None = None
    output: str = ""
    method: str = ""
    scale: str = ""
    problem: str = ""
