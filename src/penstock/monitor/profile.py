"""Makes a reference of training data: runs the model over it, and keeps bins and counts."""

from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensor
from penstock.monitor.columns import Rows, input_columns, joined, output_columns
from penstock.monitor.reference import TRAINING, Reference, build
from penstock.monitor.tables import Table, tensors_of

BATCH = 1024

Tell = Callable[[int, int], None]
"""Hears how many rows of how many are done."""


class Model(Protocol):
    """A loaded model."""

    signature: Signature

    def run(self, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Its outputs."""


def profile(table: Table, model: Model, names: Sequence[str], tell: Tell = lambda _done, _total: None) -> Reference:
    """The reference of a version's training data.

    Raises:
        InvalidInput: the data does not fit the model, or is too little.
    """
    signature = model.signature
    tensors = tensors_of(table, signature, names)
    inputs = input_columns(signature.inputs, signature.batching, names)
    outputs = output_columns(signature.outputs, signature.batching)
    if not signature.batching:
        raise InvalidInput("only models whose first axis is rows can be profiled from a table")
    total = len(tensors[0].data)
    wanted = [spec.name for spec in signature.outputs]
    given: list[Rows] = []
    answered: list[Rows] = []
    for start in range(0, total, BATCH):
        part = [Tensor(one.name, one.datatype, one.data[start : start + BATCH]) for one in tensors]
        arrays = model.run(signature.bind(part).feeds, wanted)
        answers = [Tensor(spec.name, spec.datatype, one) for spec, one in zip(signature.outputs, arrays, strict=True)]
        rows, told = inputs(part), outputs(answers)
        if rows is None or told is None:
            raise InvalidInput("the data does not fit the model's inputs")
        given.append(rows)
        answered.append(told)
        tell(min(start + BATCH, total), total)
    labels = [*inputs.numbers, *inputs.labels], [*outputs.numbers, *outputs.labels]
    return build(labels, joined(given), joined(answered), TRAINING)
