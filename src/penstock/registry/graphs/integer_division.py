"""Guards integer divisions that could crash the process.

The least number of a type divided by -1 has no result in that type: the processor raises an exception, which ends the
process. If the graph's own values do not rule that out, admission inserts a test before the division. The result is
then the least number again, as two's complement wraps around, and all other results stay the same.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from penstock.core.errors import Refused
from penstock.engine.faults import DIVISOR
from penstock.registry.graphs.guards import GuardRule, NodeBuilder, label_of
from penstock.registry.graphs.value_facts import GraphScope, ScopedValue, runtime_type

GUARDED = "guarded_divisions"
"""The name, among the facts of an admission report, of the divisions that were guarded: operator and node of each."""

_OPSET = 9
"""The operator set since which ``Where`` exists."""

_NUMBERS: dict[int, Any] = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}
"""The types whose division traps; narrower ones are computed in 32 bits."""

_TRAPS = frozenset(map(runtime_type, _NUMBERS))


def _guard_node(node: onnx.NodeProto, scope: GraphScope, build: NodeBuilder) -> list[onnx.NodeProto] | None:
    """Return a division with a test before it, None if it cannot trap.

    Raises:
        Refused: it cannot be guarded; the message says what to do.
    """
    kind = _trapping_type(node, scope)
    if not kind:
        return None
    if build.opset < _OPSET:
        raise Refused(
            f"{label_of(node)} may divide the least integer by -1, which ends the process that computes it, and "
            f"operator set {build.opset} has no test for it; export the model with operator set {_OPSET} or later"
        )
    return _test_division(node, _NUMBERS[kind], scope.find(node.input[1]).is_brought(), build)


def _test_division(node: onnx.NodeProto, number: Any, is_brought: bool, build: NodeBuilder) -> list[onnx.NodeProto]:
    """Return nodes that divide by 1 where the result would not fit (Div) or by -1 (Mod, whose result is 0 for both).

    The name of a division whose divisor ``is_brought`` by a request says so, because a divisor of 0 is then the
    caller's error.
    """
    dividend, divisor = node.input
    minus_one, item = build.constant(number(-1)), build.constant(number(1))
    tests = [minus_one, item, build.node("Equal", divisor, minus_one.name)]
    if node.op_type == "Div":
        least = build.constant(number(np.iinfo(number).min))
        is_least = build.node("Equal", dividend, least.name)
        tests += [least, is_least, build.node("And", tests[-1].name, is_least.name)]
    safe = build.node("Where", tests[-1].name, item.name, divisor)
    division = onnx.NodeProto()
    division.CopyFrom(node)
    division.input[1] = safe.name
    if is_brought:
        division.name = f"{build.name(DIVISOR)} ({label_of(node)})"
    return [*tests, safe, division]


def _trapping_type(node: onnx.NodeProto, scope: GraphScope) -> int:
    """Return the type of a division that may trap, 0 if it cannot.

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
            f"the type of the values that {label_of(node)} divides cannot be inferred; if they are integers, a request "
            "may end the process that computes it; state the type of its output in value_info, or divide by a constant"
        )
    return kind


def _is_no_integer(value: ScopedValue) -> bool:
    """Return whether the runtime's declarations rule out that a value of unknown type is an integer that traps."""
    types = value.types()
    return types is not None and not types & _TRAPS


RULE = GuardRule(frozenset({("", "Div"), ("", "Mod")}), _guard_node)
