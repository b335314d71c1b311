"""Refuses operators whose attributes crash the process that runs them.

Their ranges are checked by assertions of the C++ library, or not at all. Running the graph at admission finds most of
them, but not those in a branch that its generated inputs do not take.
"""

from collections.abc import Callable

import onnx
from onnx import helper

from penstock.core.errors import Refused
from penstock.registry.graphs.guards import GuardRule, NodeBuilder, label_of
from penstock.registry.graphs.value_facts import GraphScope

NAME = "crashing_attributes"
"""The name of the rule. It guards nothing, so no fact of an admission report has this name."""

AttributeLimit = Callable[[str, float], float]
"""Returns the value of an attribute, or the default."""


def _guard_normal(value: AttributeLimit) -> str:
    return "" if value("scale", 1.0) > 0 else "a scale that is not above 0"


def _guard_uniform(value: AttributeLimit) -> str:
    return "" if value("low", 0.0) <= value("high", 1.0) else "a lower bound that is not below the upper one"


def _guard_gathering(value: AttributeLimit) -> str:
    return "" if value("batch_dims", 0) >= 0 else "batch_dims below 0"


_WRONG = {
    ("", "GatherND"): _guard_gathering,
    ("", "RandomNormal"): _guard_normal,
    ("", "RandomNormalLike"): _guard_normal,
    ("", "RandomUniform"): _guard_uniform,
    ("", "RandomUniformLike"): _guard_uniform,
    ("com.microsoft", "GatherND"): _guard_gathering,
}
"""Functions that return the fault in the attributes of an operator, "" without one."""


def _reject(node: onnx.NodeProto, _scope: GraphScope, _build: NodeBuilder) -> None:
    """
    Raises:
        Refused: an attribute ends the process.
    """
    stated = {item.name: helper.get_attribute_value(item) for item in node.attribute if not item.ref_attr_name}
    wrong = _WRONG[node.domain if node.domain == "com.microsoft" else "", node.op_type](
        lambda name, default: float(stated.get(name, default))
    )
    if wrong:
        raise Refused(
            f"{label_of(node)} has {wrong}, which ends the process that runs it; export the model with another"
        )


RULE = GuardRule(frozenset(_WRONG), _reject)
