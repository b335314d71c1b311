"""A graph as plain data: what the readers of exact models look at, without a library that reads files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Attribute: TypeAlias = int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | NDArray[Any]
"""The value of an attribute; texts are ``str``, tensors are arrays."""

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


Constants: TypeAlias = Mapping[str, NDArray[Any]]
"""The values of initializers and constants, by name."""


def text_of(value: object) -> str:
    """Return a text, which files have as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


class NotExact(Exception):
    """Why there is no exact explanation: one sentence, without a path, that callers may see."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One operator; the domain of ONNX itself is "", a missing optional input or output has the name ""."""

    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a text."""
        found = self.attributes.get(name, default)
        return text_of(found)

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is a whole number."""
        found = self.attributes.get(name, default)
        return found if isinstance(found, int) else default

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        found = self.attributes.get(name, default)
        return float(found) if isinstance(found, int | float) else default

    def integers(self, name: str) -> Integers:
        """Return an attribute that lists whole numbers; none if it is missing."""
        return np.asarray(self.attributes.get(name, ()), dtype=np.int64).reshape(-1)

    def array(self, name: str, dtype: type[np.float32 | np.float64] = np.float32) -> NDArray[Any]:
        """Return an attribute that lists numbers, or its form ``..._as_tensor``, in one precision; none if missing."""
        found = self.attributes.get(f"{name}_as_tensor")
        if found is None or np.size(found) == 0:
            found = self.attributes.get(name, ())
        return np.asarray(found, dtype=dtype).reshape(-1)

    def texts(self, name: str) -> list[str]:
        """Return an attribute that lists texts; none if it is missing."""
        found = self.attributes.get(name, ())
        items = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
        return [text_of(item) for item in items]


@dataclass(frozen=True, slots=True)
class ModelGraph:
    """A graph: its nodes in any order, the values of initializers and constants, the NumPy type of each input that has
    no default, and the names of the outputs."""

    nodes: Sequence[GraphNode]
    constants: Mapping[str, NDArray[Any]]
    inputs: Mapping[str, np.dtype[Any]]
    outputs: Sequence[str]
