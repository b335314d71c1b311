"""Turns a call for a prediction into one for the explanation of it, the same for every transport."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from penstock.core.errors import InvalidInput
from penstock.core.explanations import ExplanationRecord, options_in
from penstock.core.labels import Priority
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall
from penstock.serving.requested_outputs import RequestedOutput

EXPLAIN: Final = "explain"
"""The request parameter by which a prediction request asks for an explanation instead."""


def asks_for_explanation(parameters: Mapping[str, Any]) -> bool:
    """Whether the parameters of a request ask for an explanation; raises ``InvalidInput`` for another value."""
    value = parameters.get(EXPLAIN)
    if value is None or type(value) is bool:
        return bool(value)
    raise InvalidInput(f"the parameter '{EXPLAIN}' must be true or false")


def with_requested(parameters: Mapping[str, Any], requested: Sequence[RequestedOutput] | None) -> dict[str, Any]:
    """Return the parameters of an explanation with the requested outputs of the request, unless they state some."""
    if not requested or parameters.get("outputs") is not None:
        return dict(parameters)
    return {**parameters, "outputs": [item.name for item in requested]}


def explain_instead(plane: DataPlane, call: InferCall, parameters: Mapping[str, Any]) -> None:
    """Make a call that has not begun one for an explanation, as its parameters say. It is then not a prediction:
    nothing is mirrored, monitored or compared.

    Raises:
        InvalidInput: a parameter has an impossible value.
        Overloaded: there are as many explanations as may be.
    """
    record = ExplanationRecord(options_in(parameters))
    explained = plane.explainer().explained(call.loaded)
    refused = explained.admission_error(Priority.BATCH)
    if refused is not None:
        raise refused
    call.loaded, call.observers = explained, ()
    call.requested = None
    call.explanation = record
