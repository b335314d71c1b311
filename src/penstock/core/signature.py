"""What a model takes and gives, and the one place where a request's tensors are held against it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array, Shape, Tensor, shape_text

Feeds = dict[str, Array]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as callers see it: ``shape`` counts the batch dimension, -1 is any size.

    ``graph_shape`` is the shape the graph wants where the configuration states another one (``reshape``);
    its one -1 or batch dimension is filled from the request.
    """

    name: str
    datatype: str
    shape: Shape
    optional: bool = False
    graph_shape: Shape | None = None
    labels: tuple[str, ...] = ()

    def describe(self) -> str:
        """The sentence part every error uses: ``'x' FP32 [-1, 30]``."""
        return f"'{self.name}' {self.datatype} {shape_text(self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of one version.

    ``batching`` says that every first dimension is a free batch dimension; ``max_batch_size`` bounds it
    (rows, 0 = no bound stated).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batching: bool = False
    max_batch_size: int = 0
    _inputs: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)
    _outputs: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_inputs", {spec.name: spec for spec in self.inputs})
        object.__setattr__(self, "_outputs", {spec.name: spec for spec in self.outputs})

    def output(self, name: str) -> TensorSpec:
        """The output of that name.

        Raises:
            InvalidInput: the model has no such output.
        """
        try:
            return self._outputs[name]
        except KeyError:
            raise InvalidInput(f"unknown output '{name}'; the model gives {_listing(self.outputs)}") from None

    def bind(self, tensors: Sequence[Tensor]) -> Feeds:
        """The arrays to feed the graph, keyed by input name, each in the graph's shape.

        Raises:
            InvalidInput: an input is unknown, doubled, missing, or of the wrong datatype, rank or dimension;
                the inputs disagree on the batch size, or it is over the bound.
        """
        feeds: Feeds = {}
        known = self._inputs
        for tensor in tensors:
            spec = known.get(tensor.name)
            if spec is None:
                raise InvalidInput(f"unknown input '{tensor.name}'; the model takes {_listing(self.inputs)}")
            if tensor.name in feeds:
                raise InvalidInput(f"input '{tensor.name}' is given twice; expected it once")
            _check(spec, tensor)
            feeds[tensor.name] = tensor.data
        if len(feeds) != len(known):
            self._check_missing(feeds)
        if self.batching:
            self._check_batch(feeds)
        for spec in self.inputs:
            if spec.graph_shape is not None and spec.name in feeds:
                feeds[spec.name] = _reshaped(feeds[spec.name], spec.graph_shape, self.batching)
        return feeds

    def _check_missing(self, feeds: Feeds) -> None:
        for spec in self.inputs:
            if spec.name not in feeds and not spec.optional:
                raise InvalidInput(f"missing input {spec.describe()}")

    def _check_batch(self, feeds: Feeds) -> None:
        if len(feeds) > 1:
            rows = {name: array.shape[0] for name, array in feeds.items()}
            if len(set(rows.values())) > 1:
                stated = ", ".join(f"'{name}' {count}" for name, count in rows.items())
                raise InvalidInput(f"the inputs disagree on the batch size: {stated}")
        if self.max_batch_size:
            rows_given = next(iter(feeds.values())).shape[0] if feeds else 0
            if rows_given > self.max_batch_size:
                raise InvalidInput(f"a batch of {rows_given} rows is over the model's limit of {self.max_batch_size}")

    def rows(self, feeds: Feeds) -> int:
        """Rows of one request: its batch size, or 1 for a model that does not batch."""
        if not self.batching:
            return 1
        for array in feeds.values():
            return int(array.shape[0])
        return 1


def _listing(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(spec.describe() for spec in specs) or "nothing"


def _check(spec: TensorSpec, tensor: Tensor) -> None:
    if tensor.datatype != spec.datatype:
        raise InvalidInput(f"input '{spec.name}' got {tensor.datatype}; expected {spec.describe()}")
    shape = tensor.data.shape
    if len(shape) != len(spec.shape):
        raise InvalidInput(f"input '{spec.name}' got rank {len(shape)} {shape_text(shape)}; expected {spec.describe()}")
    for got, want in zip(shape, spec.shape, strict=True):
        if got != want and want >= 0:
            raise InvalidInput(f"input '{spec.name}' got shape {shape_text(shape)}; expected {spec.describe()}")


def _reshaped(array: Array, graph_shape: Shape, batching: bool) -> Array:
    wanted = (array.shape[0], *graph_shape[1:]) if batching else graph_shape
    try:
        return array.reshape(wanted)
    except ValueError:
        raise InvalidInput(
            f"a tensor of shape {shape_text(array.shape)} cannot be reshaped to {shape_text(wanted)}"
        ) from None
