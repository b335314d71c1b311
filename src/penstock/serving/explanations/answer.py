"""The answer to a request for an explanation: its tensors, and the parameters that say how it was made."""

from typing import TYPE_CHECKING

import numpy as np

from penstock.core.bins import Floats
from penstock.core.explanations import check_columns, check_size, scale_of
from penstock.core.tensors import Tensor
from penstock.serving.explanations.explained_version import ATTRIBUTIONS, BASE_VALUE, ERROR, FEATURES, PREDICTION
from penstock.serving.explanations.preparation import Prepared

if TYPE_CHECKING:
    from penstock.explain.methods import Explanation


def answer_tensors(prepared: Prepared, made: "Explanation") -> list[Tensor]:
    """Return the tensors of an explanation.

    Raises:
        InvalidInput: a wanted column does not exist.
        TooLarge: there are more numbers than an answer may have.
    """
    attributions, error, base, prediction = made.attributions, made.error, made.base_value, made.prediction
    if prepared.selects_after and prepared.columns:
        chosen = list(prepared.columns)
        check_columns(chosen, attributions.shape[2])
        attributions, error = attributions[:, :, chosen], error[:, :, chosen]
        base, prediction = base[chosen], prediction[:, chosen]
    check_size(*attributions.shape)
    names = np.empty(len(prepared.matrix.features), object)
    names[:] = prepared.matrix.features
    return [
        Tensor(ATTRIBUTIONS, "FP64", _drop_output_axis(attributions)),
        Tensor(BASE_VALUE, "FP64", _make_contiguous(base)),
        Tensor(PREDICTION, "FP64", _make_contiguous(prediction)),
        Tensor(ERROR, "FP64", _drop_output_axis(error)),
        Tensor(FEATURES, "BYTES", names),
    ]


def _drop_output_axis(values: Floats) -> Floats:
    """Return attributions without the dimension of outputs if there is one output."""
    return _make_contiguous(values[:, :, 0] if values.shape[2] == 1 else values)


def _make_contiguous(values: Floats) -> Floats:
    return np.ascontiguousarray(values, np.float64)


def answer_parameters(prepared: Prepared, made: "Explanation", against: str) -> dict[str, str | bool | int]:
    """Return what says how an explanation was made; ``against`` is the version whose answer was subtracted."""
    scale = made.scale
    if scale == "value" and not against:
        scale = scale_of(made.prediction)
    texts = {
        "method": made.method,
        "scale": scale,
        "output": prepared.output.name,
        "background": prepared.source,
        "against": against,
        "note": made.note or note_of(prepared.why_not_exact, made.exact),
    }
    numbers = {"background_rows": prepared.background_rows, "evaluated_rows": int(made.evaluated_rows)}
    return {**{name: text for name, text in texts.items() if text}, "exact": bool(made.exact), **numbers}


def note_of(why_not: str, is_exact: bool) -> str:
    """Return why the graph did not give the explanation; all coalitions may still have made it exact."""
    return f"{'not from the graph' if is_exact else 'not exact'}: {why_not}" if why_not else ""
