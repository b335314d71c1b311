"""Captured requests for the tests of replays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.core.tensors import Tensor
from penstock.monitor.capture import CapturedRequest, packed_request


def tensor(name: str, values: Any, datatype: str = "FP32") -> Tensor:
    """A tensor from nested values."""
    return Tensor(name, datatype, np.array(values, object if datatype == "BYTES" else "<f4"))


def captured(call_id: str, at: float, answer: Sequence[float] = (0.1, 0.9), **head: Any) -> CapturedRequest:
    """A request of one row with its answer, two scores."""
    sides = [("inputs", tensor("x", [[at, 1.0]])), ("outputs", tensor("y", [list(answer)]))]
    return packed_request({"id": call_id, "at": at, "route": "stable", **head}, sides)
