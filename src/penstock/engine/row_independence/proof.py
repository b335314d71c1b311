"""Follows the rows from the inputs of a graph to its outputs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from penstock.core.batching import RowProof
from penstock.engine.row_independence.graph import GraphInput, GraphOutput, Node, PlainGraph
from penstock.engine.row_independence.layout import constant_value
from penstock.engine.row_independence.operation import Operation
from penstock.engine.row_independence.operators import ATTRIBUTES, BY_DATA, OPERATOR_SETS, RANDOM, REASONS, RULES
from penstock.engine.row_independence.shape_arithmetic import compute_elements, is_followed
from penstock.engine.row_independence.sizes import ROWS, SymbolicSize
from penstock.engine.row_independence.values import (
    UNKNOWN,
    GraphValue,
    Nondeterministic,
    NotProven,
    RowAxis,
    ShapeDependsOnData,
)

LONGEST_NAME = 80
STANDARD = ("", "ai.onnx.ml")
"""Domains whose operators are functions of their inputs, but for the random ones."""


class _UnprovenValue:
    """What comes of a value once an operator on its way could not be passed."""

    def __init__(self, proof: RowProof, by_data: bool = False) -> None:
        self.proof = proof
        self.by_data = by_data  # its size may be a matter of the data


Known = dict[str, GraphValue | _UnprovenValue]


def prove(graph: PlainGraph) -> RowProof:
    """Whether every row of every output depends on the same row of the inputs alone, and not on how many there are.

    Holds for runs whose inputs agree in the shapes of their rows. Otherwise the proof names an operator that could not
    be passed: rows may be independent all the same.
    """
    values: Known = dict(_read_constants(graph))
    for item in graph.inputs:
        values[item.name] = _input_value(item)
    for node in graph.nodes:
        values |= _follow_node(node, graph, values)
    faults = [fault for output in graph.outputs if (fault := _find_fault(output, values.get(output.name))) is not None]
    if not faults:
        return RowProof(True)
    return replace(faults[0].proof, rows_vary=_rows_vary(graph, values))


def _find_fault(output: GraphOutput, value: GraphValue | _UnprovenValue | None) -> _UnprovenValue | None:
    """Why an output is not proven, None if it is."""
    if isinstance(value, _UnprovenValue):
        return value
    if value is not None and value.padding is not None:
        return _UnprovenValue(RowProof(False, f"output '{_shorten(output.name)}' is padded to the longest row"))
    if value is not None and value.rows == RowAxis(0):
        return None
    return _UnprovenValue(
        RowProof(False, f"output '{_shorten(output.name)}' does not have one row for each row of the inputs")
    )


def _rows_vary(graph: PlainGraph, values: Known) -> bool:
    """Whether an output may have more or fewer rows than the inputs: it is known to, or the data decide on its size and
    its first dimension does not have the name that the inputs' has."""
    names = {item.rows_name for item in graph.inputs} - {""}
    for output in graph.outputs:
        value = values.get(output.name)
        if isinstance(value, _UnprovenValue):
            if value.by_data and output.rows_name not in names:
                return True
        elif value is None or value.rows != RowAxis(0) or value.padding is not None:
            return True
    return False


def _read_constants(graph: PlainGraph) -> Iterator[tuple[str, GraphValue]]:
    return ((name, constant_value(tensor)) for name, tensor in graph.constants.items())


def _input_value(graph_input: GraphInput) -> GraphValue | _UnprovenValue:
    """What is known of an input: its first axis holds the rows."""
    if not graph_input.dims:
        return _UnprovenValue(RowProof(False, f"input '{_shorten(graph_input.name)}' does not state a shape with rows"))
    if graph_input.dims[0] is not None:
        return _UnprovenValue(RowProof(False, f"input '{_shorten(graph_input.name)}' has a fixed number of rows"))
    inner = [_size_of_axis(graph_input.name, axis, dim) for axis, dim in enumerate(graph_input.dims[1:], 1)]
    return GraphValue((ROWS, *inner), RowAxis(0))


def _size_of_axis(name: str, axis: int, dim: int | None) -> SymbolicSize:
    return SymbolicSize(1, (f"{name}@{axis}",)) if dim is None else SymbolicSize(dim)


def _follow_node(node: Node, graph: PlainGraph, facts: Known) -> Known:
    """What an operator gives for what is known of its inputs."""
    values = [facts.get(name) if name else None for name in node.inputs]
    broken = [value for value in values if isinstance(value, _UnprovenValue)]
    if broken:
        by_data = (not node.domain and node.op_type in BY_DATA) or any(item.by_data for item in broken)
        return dict.fromkeys(filter(None, node.outputs), _UnprovenValue(broken[0].proof, by_data))
    if any(name and value is None for name, value in zip(node.inputs, values, strict=True)):
        return _make_unproven(node, "takes a value that no rule covers")
    try:
        return _apply_rule(node, graph, [value for value in values if not isinstance(value, _UnprovenValue)])
    except NotProven as error:
        return _make_unproven(node, str(error), isinstance(error, ShapeDependsOnData))
    except (ValueError, IndexError, TypeError, ArithmeticError):  # a graph that the runtime would not take either
        return _make_unproven(node, "has inputs or attributes that do not match")


def _apply_rule(node: Node, graph: PlainGraph, values: list[GraphValue | None]) -> Known:
    """
    Raises:
        NotProven: the operator cannot be passed.
    """
    _check_known(node, graph.functions)
    op = Operation(node, _find_operator_set(node, graph.opsets), values)
    try:
        results = _run_rule(op)
    except Nondeterministic:
        raise
    except NotProven:
        if node.domain not in STANDARD or not all(value is None or _is_constant(value) for value in values):
            raise
        results = []
    by_name = dict(zip(node.outputs, results, strict=False))
    spare = UNKNOWN if all(value is None or _is_constant(value) for value in values) else _no_rule(node)
    return {name: by_name.get(name, spare) for name in node.outputs if name}


def _no_rule(node: Node) -> _UnprovenValue:
    return _UnprovenValue(_make_refusal(node, "has a result without a rule"))


def _is_constant(value: GraphValue) -> bool:
    return value.rows is None and not value.counts_rows


def _run_rule(op: Operation) -> list[GraphValue]:
    node = op.node
    if not node.domain and is_followed(op.values) and (elements := compute_elements(op)) is not None:
        return elements
    rule = RULES.get((node.domain, node.op_type))
    if not node.domain and node.op_type in BY_DATA:
        raise ShapeDependsOnData
    if rule is None:
        raise NotProven(REASONS.get((node.domain, node.op_type), "is not known to answer each row by itself"))
    results = list(rule(op))
    if op.has_unread_input:
        raise NotProven("has an input without a rule")
    return results


def _check_known(node: Node, functions: frozenset[tuple[str, str]]) -> None:
    """Refuse what can be no plain function of its inputs."""
    if node.has_subgraph:
        raise NotProven(REASONS["", "Loop"])
    if (node.domain, node.op_type) in functions:
        raise NotProven("is a function that the file itself defines")
    if not node.domain and node.op_type in RANDOM:
        raise Nondeterministic("draws random numbers")
    allowed = ATTRIBUTES.get((node.domain, node.op_type))
    if allowed is not None and not node.attributes.keys() <= allowed:
        raise NotProven("has an attribute without a rule")


def _find_operator_set(node: Node, opsets: Mapping[str, int]) -> int:
    first, last = OPERATOR_SETS.get(node.domain, (1, 0))
    version = opsets.get(node.domain, 0)
    if not first <= version <= last:
        raise NotProven(f"belongs to an operator set ({node.domain or 'ai.onnx'} {version}) without rules")
    return version


def _make_unproven(node: Node, reason: str, by_data: bool = False) -> Known:
    return dict.fromkeys(filter(None, node.outputs), _UnprovenValue(_make_refusal(node, reason), by_data))


def _make_refusal(node: Node, reason: str) -> RowProof:
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    name = node.name or next(filter(None, node.outputs), "")
    return RowProof(False, f"operator {operator} {reason}", _shorten(name), operator)


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
