"""Rules of answers that are the same in JSON and protobuf: the form that the caller requested for each output."""

from typing import Final

from penstock.api.common.work import INLINE_JSON, INLINE_TEXTS, LargeWork, RequestWork
from penstock.core.classification import top_classes
from penstock.core.tensors import Tensor
from penstock.serving.infer_call import InferCall

INLINE_RANKED: Final = 1 << 14
"""Values that are ranked on the event loop."""


def in_asked_form(call: InferCall, index: int, work: RequestWork) -> Tensor:
    """Return an output in the requested form: the values of the model, or its classes.

    Raises:
        InvalidInput: classes are asked for of an output that is not a number.
        TooLarge: there are more elements of text than an answer may have, or more values than are ranked.
        LargeWork: it has to be done on a thread.
    """
    tensor = call.outputs[index]
    classes = 0 if call.requested is None else call.requested[index].classes
    if classes:
        if work.inline and (tensor.data.size > INLINE_RANKED or classes > INLINE_TEXTS):
            raise LargeWork
        signature = call.loaded.signature
        labels = signature.output(tensor.name).labels
        tensor = top_classes(tensor, classes, labels, signature.batching, work.limits.max_text_elements, work.pause)
    if tensor.datatype == "BYTES":
        work.texts(tensor.name, tensor.data.size)
        if work.inline and sum(map(len, tensor.data.ravel().tolist())) > INLINE_JSON:
            raise LargeWork
    return tensor
