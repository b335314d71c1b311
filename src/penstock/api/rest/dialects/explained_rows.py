"""The answer of V1's ``:explain``: for each row what is explained and what each feature adds, by name."""

from typing import Any, Final

import orjson

from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.rest.dialects.json_answer import encode_output_rows
from penstock.core.tensors import Array
from penstock.serving.infer_call import InferCall

SMALL: Final = 2048
"""Numbers of the attributions of an answer that is written on the event loop."""


def encode_explanations(call: InferCall, work: RequestWork) -> list[bytes]:
    """Return the JSON object of an explanation, in parts; NaN and infinity are null.

    Raises:
        Unsupported: an output of the model does not have one element for each row.
        LargeWork: it has to be encoded on a thread.
    """
    arrays = {tensor.name: tensor.data for tensor in call.outputs}
    if work.inline and arrays["attributions"].size > SMALL:
        raise LargeWork
    record = call.explanation
    predictions = [] if record is None else encode_output_rows(record.predictions, work)
    parameters = {} if record is None else record.parameters
    explained = []
    for row in range(len(arrays["attributions"])):
        explained.append(orjson.dumps(_explained_row(arrays, row)))
        work.pause()
    head = b'{"predictions":' + b"".join(predictions) + b',"explanations":[' + b",".join(explained)
    return [head, b'],"parameters":' + orjson.dumps(parameters) + b"}"]


def _explained_row(arrays: dict[str, Array], row: int) -> dict[str, Any]:
    """Return one row: numbers, or a list of them with one for each column of the output."""
    features, single = arrays["features"].tolist(), arrays["attributions"].ndim == 2
    base, prediction = arrays["base_value"].tolist(), arrays["prediction"][row].tolist()
    return {
        "base_value": base[0] if single else base,
        "prediction": prediction[0] if single else prediction,
        "attributions": dict(zip(features, arrays["attributions"][row].tolist(), strict=True)),
        "error": dict(zip(features, arrays["error"][row].tolist(), strict=True)),
    }
