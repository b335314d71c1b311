"""Shows the monitor which values of a request were missing, where defaults of the model card stand in for them."""

from collections.abc import Sequence

from penstock.core.frames.missing_values import put_missing
from penstock.core.tensors import Tensor
from penstock.serving.infer_call import InferCall


def mark_missing(calls: Sequence[InferCall], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the inputs of calls, stacked in this order, with missing values instead of defaults: NaN, or no text."""
    return put_missing(inputs, [(call.rows, call.defaulted) for call in calls])
