"""A graph as plain data, independent of the library that reads it: what the proof looks at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None
"""The value of an attribute; ``None`` for kinds that no rule reads."""


@dataclass(frozen=True, slots=True)
class ConstantTensor:
    """A tensor in the file: its shape, and its elements if it has a few whole numbers or booleans (``elements``), or
    floating-point numbers (``decimals``)."""

    dims: tuple[int, ...]
    elements: tuple[int, ...] | None = None
    decimals: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One operator; a missing optional input or output has the name "". ``constant`` is the value a Constant states,
    ``has_subgraph`` says whether an attribute is a graph."""

    name: str
    domain: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    constant: ConstantTensor | None = None
    has_subgraph: bool = False


@dataclass(frozen=True, slots=True)
class GraphInput:
    """One input; dimensions are numbers or None for free ones, ``dims`` is None where it states no shape or is no
    tensor. ``rows_name`` is the name of its first dimension, "" if it has none."""

    name: str
    dims: tuple[int | None, ...] | None
    rows_name: str = ""


@dataclass(frozen=True, slots=True)
class GraphOutput:
    """One output; ``rows_name`` as of an input."""

    name: str
    rows_name: str = ""


@dataclass(frozen=True, slots=True)
class PlainGraph:
    """The whole graph: ``inputs`` without those that have a default, ``opsets`` the operator set of each domain, and
    ``functions`` the operators (domain, name) that the file defines itself."""

    inputs: Sequence[GraphInput]
    outputs: Sequence[GraphOutput]
    nodes: Sequence[Node]
    constants: Mapping[str, ConstantTensor]
    opsets: Mapping[str, int]
    functions: frozenset[tuple[str, str]] = frozenset()
