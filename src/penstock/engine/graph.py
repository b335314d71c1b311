"""Builds the served signature from a graph's inputs and outputs and from its configuration.

The rules that decide whether a graph batches are only here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from penstock.core.options import ModelOptions, TensorOptions
from penstock.core.signature import Signature, TensorPosition, TensorSpec
from penstock.core.tensors import Shape, shape_text
from penstock.core.texts import is_readable
from penstock.engine.faults import LoadFailed

DATATYPES: dict[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
"""ONNX Runtime's names of the types that the protocol supports."""

CLASS_LABELS = "penstock.class_labels"
"""Graph metadata: a JSON object with the class names of outputs."""

_NAMELESS = frozenset({"", "?", "*", "-1", "None"})
"""Names that exporters write for a dimension of any size; two of them need not be equal."""


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """One input or output as the runtime describes it: dimensions are numbers, names, or ``None`` for free ones.

    The runtime describes an unknown rank and a scalar alike: no dimensions.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    @property
    def dims(self) -> Shape:
        """Return the shape in the protocol's form: -1 for every dimension that is not a number."""
        return tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in self.shape)


@dataclass(frozen=True, slots=True)
class GraphInterface:
    """The inputs and outputs of a graph; ``overridable`` are initialisers that callers may replace. ``labels`` are the
    class names in its metadata, by output.

    ``labels`` are the names of the classes that its metadata states, by output.
    """

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    overridable: tuple[GraphTensor, ...] = ()
    ranks_known: bool = False
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_observed_shapes(self, shapes: Sequence[Sequence[Shape]]) -> "GraphInterface":
        """Return the graph with the output shapes that runs have shown: one shape for each run. A run corrects a wrong
        rank and a wrong fixed dimension; exporters write 1 for the rows of labels."""
        outputs = tuple(
            _with_observed(tensor, each) for tensor, each in zip(self.outputs, zip(*shapes, strict=True), strict=True)
        )
        return replace(self, outputs=outputs, ranks_known=True)

    def with_free_rows(self) -> "GraphInterface":
        """Return the graph as if every output had a free first dimension: the stated one is not verified before a run.
        Only if the first dimension of every input is free.
        """
        if not self.inputs or any(tensor.dims[:1] != (-1,) for tensor in self.inputs):
            return self
        outputs = tuple(
            replace(output, shape=(None, *output.shape[1:])) if output.shape else output for output in self.outputs
        )
        return replace(self, outputs=outputs)


def _with_observed(tensor: GraphTensor, shapes: Sequence[Shape]) -> GraphTensor:
    rank = len(shapes[0])
    if len(tensor.shape) != rank:
        return replace(tensor, shape=(None,) * rank)
    contradicted = {
        axis
        for shape in shapes
        for axis, (dim, size) in enumerate(zip(tensor.dims, shape, strict=True))
        if dim not in (-1, size)
    }
    return replace(tensor, shape=tuple(None if axis in contradicted else dim for axis, dim in enumerate(tensor.shape)))


def parse_labels(metadata: str) -> dict[str, tuple[str, ...]]:
    """Return the class names in a graph's metadata, by output; none if they have another form."""
    try:
        stated = json.loads(metadata or "{}")
    except (ValueError, RecursionError):
        return {}
    outputs = stated.items() if isinstance(stated, dict) else ()
    return {
        name: tuple(labels)
        for name, labels in outputs
        if isinstance(labels, list) and all(isinstance(label, str) and is_readable(label) for label in labels)
    }


def infer_signature(graph: GraphInterface, options: ModelOptions) -> Signature:
    """Return the signature of a graph under a configuration; ``batching`` is what graph and configuration state.

    Raises:
        LoadFailed: an input or output is not a tensor the protocol can carry, or the configuration
            contradicts the graph.
    """
    overridable = {tensor.name for tensor in graph.overridable}
    stated_names = {stated.name for stated in options.inputs}
    inputs = graph.inputs + tuple(tensor for tensor in graph.overridable if tensor.name in stated_names)
    batched = bool(options.max_batch_size)
    input_specs = _make_specs("input", inputs, options.inputs, batched)
    output_specs = tuple(
        spec if spec.labels else replace(spec, labels=graph.labels.get(spec.name, ()))
        for spec in _make_specs("output", graph.outputs, options.outputs, batched)
    )
    for spec in input_specs:
        if spec.optional and spec.name not in overridable:
            raise LoadFailed(f"the configuration calls input '{spec.name}' optional, but the graph requires it")
    if batched:
        _require_batch_dimension(graph, options, input_specs)
    derived = options.max_batch_size is None and _promises_batching(graph, (*input_specs, *output_specs))
    symbolic_dims = _symbolic_dims(inputs, input_specs)
    return Signature(input_specs, output_specs, batched or derived, options.max_batch_size or 0, symbolic_dims)


def is_sized_by_inputs(graph: GraphInterface, batching: bool) -> bool:
    """Whether the shapes of the inputs determine the number of elements of each output; otherwise their values may."""
    names = {dim for tensor in graph.inputs for dim in tensor.shape if isinstance(dim, str) and dim not in _NAMELESS}
    return all(
        isinstance(dim, int) or dim in names or (batching and axis == 0)
        for tensor in graph.outputs
        for axis, dim in enumerate(tensor.shape)
    )


def _symbolic_dims(tensors: Sequence[GraphTensor], specs: Sequence[TensorSpec]) -> dict[str, list[TensorPosition]]:
    """Return the positions of each name that the graph gives to more than one free dimension of its inputs."""
    positions: dict[str, list[TensorPosition]] = {}
    for tensor, spec in zip(tensors, specs, strict=True):
        if spec.graph_shape is None and len(spec.shape) == len(tensor.shape):
            for axis, dim in enumerate(tensor.shape):
                if isinstance(dim, str) and dim not in _NAMELESS:
                    positions.setdefault(dim, []).append((tensor.name, axis))
    return {dim: places for dim, places in positions.items() if len(places) > 1}


def _make_specs(
    role: str, tensors: Sequence[GraphTensor], stated: Sequence[TensorOptions], batched: bool
) -> tuple[TensorSpec, ...]:
    by_name = {entry.name: entry for entry in stated}
    if len(by_name) != len(stated):
        raise LoadFailed(f"the configuration states an {role} twice")
    for name in by_name.keys() - {tensor.name for tensor in tensors}:
        names = ", ".join(f"'{tensor.name}'" for tensor in tensors) or "none"
        raise LoadFailed(f"the configuration states the {role} '{name}', but the graph's {role}s are: {names}")
    return tuple(_make_spec(role, tensor, by_name.get(tensor.name), batched) for tensor in tensors)


def _make_spec(role: str, tensor: GraphTensor, stated: TensorOptions | None, batched: bool) -> TensorSpec:
    datatype = _find_datatype(role, tensor)
    if stated is None:
        return TensorSpec(tensor.name, datatype, tensor.dims)
    if stated.datatype != datatype:
        raise LoadFailed(
            f"the configuration states {role} '{tensor.name}' as {stated.datatype}, but the graph has {datatype}"
        )
    lead = (-1,) if batched else ()
    shape = lead + stated.dims
    graph_shape = None if stated.reshape is None else lead + stated.reshape
    if graph_shape is not None:
        _check_reshape(role, stated)
    _check_fits(role, tensor, shape if graph_shape is None else graph_shape)
    return TensorSpec(tensor.name, datatype, shape, stated.optional, graph_shape, stated.labels)


def _find_datatype(role: str, tensor: GraphTensor) -> str:
    datatype = DATATYPES.get(tensor.type)
    if datatype is not None:
        return datatype
    if tensor.type.startswith("tensor("):
        raise LoadFailed(f"{role} '{tensor.name}' is {tensor.type}, a type the protocol cannot carry")
    hint = f"; export its tensors as {role}s of their own" if tensor.type.startswith("seq(tensor") else ""
    raise LoadFailed(f"{role} '{tensor.name}' is {tensor.type}; only tensors can be served{hint}")


def _check_fits(role: str, tensor: GraphTensor, shape: Shape) -> None:
    dims = tensor.dims
    if not dims:
        return  # a scalar or an unknown rank: only a run can show it
    if len(dims) != len(shape) or any(want not in (-1, got) for want, got in zip(dims, shape, strict=True)):
        raise LoadFailed(
            f"the configuration states {role} '{tensor.name}' as {shape_text(shape)}, "
            f"but the graph has {shape_text(dims)}"
        )


def _check_reshape(role: str, stated: TensorOptions) -> None:
    dims, inner = stated.dims, stated.reshape or ()
    free = dims.count(-1)
    if free != inner.count(-1) or free > 1:
        raise LoadFailed(f"the reshape of {role} '{stated.name}' may have one free dimension, on both sides")
    if abs(prod(dims)) != abs(prod(inner)):
        raise LoadFailed(
            f"the reshape of {role} '{stated.name}' from {shape_text(dims)} to {shape_text(inner)} changes its size"
        )


def _require_batch_dimension(graph: GraphInterface, options: ModelOptions, inputs: Sequence[TensorSpec]) -> None:
    stated = {entry.name for entry in options.inputs}
    checked = [("input", tensor) for tensor in graph.inputs if tensor.shape or tensor.name not in stated]
    checked += [("output", tensor) for tensor in graph.outputs if tensor.shape or graph.ranks_known]
    for role, tensor in checked:
        if tensor.dims[:1] != (-1,):
            raise LoadFailed(
                f"max_batch_size {options.max_batch_size} needs a free first dimension everywhere, "
                f"but {role} '{tensor.name}' has the shape {shape_text(tensor.dims)}"
            )
    if not inputs:
        raise LoadFailed(f"max_batch_size {options.max_batch_size} needs inputs, but the graph takes none")


def _promises_batching(graph: GraphInterface, specs: Sequence[TensorSpec]) -> bool:
    """Whether all first dimensions are free and may be the same: the batch."""
    shapes = [spec.shape if spec.graph_shape is None else spec.graph_shape for spec in specs]
    shapes += [spec.shape for spec in specs] + [tensor.dims for tensor in (*graph.inputs, *graph.outputs)]
    if not graph.inputs or any(shape[:1] != (-1,) for shape in shapes):
        return False
    batch = {tensor.shape[0] for tensor in graph.inputs if isinstance(tensor.shape[0], str)}
    inner = {dim for tensor in graph.inputs for dim in tensor.shape[1:] if isinstance(dim, str)}
    first = {tensor.shape[0] for tensor in graph.outputs}
    # ["N", 3] beside ["k"] are two sizes; ["N", "N"] is a square; ["N", "T"] to ["T"] goes along the other way
    return len(batch) <= 1 and not batch & inner and not first & (inner - batch)
