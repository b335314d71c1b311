"""Keeps a division of whole numbers from ending the process that serves it.

The least number of a type divided by -1 has no result in that type. The processor raises an exception there, which ends
the process. Where a graph's own values do not rule it out, admission puts a test before the division: its result is the
least number again, as two's complement wraps around, and all other results stay as they are.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from penstock.core.errors import Refused
from penstock.engine.faults import DIVISOR
from penstock.registry.graphs.guards import Builder, Rule, named
from penstock.registry.graphs.value_facts import Scope, Value, runtime_type

GUARDED = "guarded_divisions"
"""The name, among the facts of an admission report, of the divisions that were guarded: operator and node of each."""

_OPSET = 9
"""The operator set since which ``Where`` exists."""

_NUMBERS: dict[int, Any] = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}
"""The types whose division the processor refuses; it computes with narrower ones in 32 bits."""

_TRAPS = frozenset(map(runtime_type, _NUMBERS))


def _guarded(node: onnx.NodeProto, scope: Scope, build: Builder) -> list[onnx.NodeProto] | None:
    """A division behind a test for what would end the process; None where nothing can.

    Raises:
        Refused: it cannot be guarded, with what to do about it.
    """
    kind = _trapping_type(node, scope)
    if not kind:
        return None
    if build.opset < _OPSET:
        raise Refused(
            f"{named(node)} may divide the least integer by -1, which ends the process that computes it, and operator "
            f"set {build.opset} has no test for it; export the model with operator set {_OPSET} or later"
        )
    return _tested(node, _NUMBERS[kind], scope.find(node.input[1]).is_brought(), build)


def _tested(node: onnx.NodeProto, number: Any, is_brought: bool, build: Builder) -> list[onnx.NodeProto]:
    """Divide by 1 instead where the result would not fit: exactly there for Div. The rest (Mod) is 0 by 1 and by -1.

    The name of a division whose divisor ``is_brought`` by callers says so, as a divisor of 0 is their mistake then.
    """
    dividend, divisor = node.input
    minus_one, one = build.constant(number(-1)), build.constant(number(1))
    tests = [minus_one, one, build.node("Equal", divisor, minus_one.name)]
    if node.op_type == "Div":
        least = build.constant(number(np.iinfo(number).min))
        is_least = build.node("Equal", dividend, least.name)
        tests += [least, is_least, build.node("And", tests[-1].name, is_least.name)]
    safe = build.node("Where", tests[-1].name, one.name, divisor)
    division = onnx.NodeProto()
    division.CopyFrom(node)
    division.input[1] = safe.name
    if is_brought:
        division.name = f"{build.name(DIVISOR)} ({named(node)})"
    return [*tests, safe, division]


def _trapping_type(node: onnx.NodeProto, scope: Scope) -> int:
    """The type of a division that may fail so, 0 where none can.

    Raises:
        Refused: the type is not known.
    """
    dividend, divisor = (scope.find(name) for name in node.input)
    kind = dividend.type or divisor.type or scope.find(node.output[0]).type
    if kind and kind not in _NUMBERS:
        return 0
    if not kind and (_is_no_integer(dividend) or _is_no_integer(divisor)):
        return 0
    if divisor.is_never_minus_one() or dividend.is_above_least():
        return 0
    if not kind:
        raise Refused(
            f"the type of the values that {named(node)} divides cannot be inferred; if they are integers, a request "
            "may end the process that computes it; state the type of its output in value_info, or divide by a constant"
        )
    return kind


def _is_no_integer(value: Value) -> bool:
    """Whether the runtime's declarations rule out that a value of unknown type is of whole numbers that trap."""
    types = value.types()
    return types is not None and not types & _TRAPS


RULE = Rule(frozenset({("", "Div"), ("", "Mod")}), _guarded)
