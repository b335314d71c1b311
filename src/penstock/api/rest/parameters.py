"""The parameters of REST requests, of their inputs and of their outputs."""

from typing import Any

from penstock.api.common import request_rules
from penstock.api.rest.messages import Parameters
from penstock.core.errors import InvalidInput
from penstock.core.texts import shorten
from penstock.serving.shared_memory import RegionSpan, SharedRegions


def span_of(name: str, parameters: Parameters, regions: SharedRegions, owner: str) -> RegionSpan | None:
    """Return the shared memory of ``owner`` that a tensor's parameters name, None for none."""
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    return request_rules.find_span(
        name,
        region,
        parameter_value(parameters, "shared_memory_offset", 0),
        parameters.get("shared_memory_byte_size"),
        parameters.get("binary_data_size") is not None or bool(parameters.get("classification")),
        regions,
        owner,
    )


def parameter_value(parameters: Parameters, key: str, default: Any) -> Any:
    """Return a parameter; null counts as absent, because some clients send a null for each field of a message."""
    value = parameters.get(key)
    return default if value is None else value


def flag_of(parameters: Parameters, key: str, owner: str) -> bool | None:
    """Return a truth value among the parameters of ``owner``, None if it is absent.

    Raises:
        InvalidInput: it is none.
    """
    value = parameters.get(key)
    if value is None or type(value) is bool:
        return value
    raise InvalidInput(f"{key} of {owner} must be true or false")


def allows_nulls(parameters: Parameters) -> bool:
    """Whether NaN and infinity may be null in a JSON answer; by default they are an error."""
    value = parameter_value(parameters, "non_finite", "error")
    if value not in ("error", "null"):
        raise InvalidInput(f"the parameter 'non_finite' must be 'error' or 'null', got '{shorten(str(value))}'")
    return bool(value == "null")
