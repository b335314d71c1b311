"""The types of operator results by ONNX Runtime's own declarations."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from onnxruntime.capi import onnxruntime_pybind11_state as runtime

Types = frozenset[str]
"""Types as the runtime writes them, as in ``tensor(int64)``."""


def result_types(domain: str, operator: str, index: int, given: Callable[[int], Types | None]) -> Types | None:
    """Return the possible types of a result of an operator, None if the runtime does not know the operator.

    ``given`` returns the types that an input, counted from 0, may have, None where nothing is known of it.
    """
    schema = _load_schemas().get((domain, operator))
    if schema is None or not schema.outputs:
        return None
    variable = _find_formal(schema.outputs, index).typeStr
    allowed = {
        constraint.type_param_str: frozenset(constraint.allowed_type_strs) for constraint in schema.type_constraints
    }
    if variable not in allowed:
        return frozenset({variable})
    same = (given(position) for position, formal in enumerate(schema.inputs) if formal.typeStr == variable)
    declared = next((types for types in same if types is not None), allowed[variable])
    return declared & allowed[variable]


def _find_formal(formals: Sequence[Any], index: int) -> Any:
    """Return the declaration of a position; the last declaration holds for all that follow."""
    return formals[min(index, len(formals) - 1)]


@cache
def _load_schemas() -> dict[tuple[str, str], Any]:
    """Return the newest declaration of every operator, by domain and name."""
    schemas: dict[tuple[str, str], Any] = {}
    for schema in runtime.get_all_operator_schema():
        key = (schema.domain, schema.name)
        if key not in schemas or schemas[key].since_version < schema.since_version:
            schemas[key] = schema
    return schemas
