"""Random graphs for the proof: steps on values whose shapes are known for one row and for three, so most of them run.

Many steps work along any axis, that of the rows included; whether the result answers each row by itself is for the
proof and the runtime to say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = tuple[int, ...]

ONE, THREE = 1, 3
"""The numbers of rows for which shapes are followed."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of FP32: its name, and its shape for one row and for three."""

    name: str
    one: Dims
    three: Dims

    @property
    def rank(self) -> int:
        return len(self.one)


class Misfit(Exception):
    """A step that this value does not take."""


@dataclass
class Builder:
    """A graph that grows; every step chooses among the values that are there."""

    random: Random
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: object, dtype: type = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weights(self, dims: Dims) -> str:
        generator = np.random.default_rng(self.random.randrange(1 << 30))
        return self.constant(generator.normal(size=dims), np.float32)

    def any(self) -> Tensor:
        return self.random.choice(self.values[-4:])

    def axis(self, value: Tensor) -> int:
        if not value.rank:
            raise Misfit
        return self.random.randrange(value.rank)

    def rows(self) -> str:
        """A vector with the number of rows."""
        return self.op("Gather", self.op("Shape", "x"), self.constant([0]))

    def model(self, output: Tensor, inputs: list[Tensor]) -> onnx.ModelProto:
        made = [helper.make_tensor_value_info(item.name, TensorProto.FLOAT, ["N", *item.one[1:]]) for item in inputs]
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", *[None] * (output.rank - 1)])
        nodes = [*self.nodes, helper.make_node("Identity", [output.name], ["y"])]
        graph = helper.make_graph(nodes, "g", made, [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


MOST_ELEMENTS, MOST_DIMS = 4000, 5

Step = Callable[[Builder], Tensor]


def both(change: Callable[[Dims], Dims], value: Tensor, name: str) -> Tensor:
    try:
        return Tensor(name, change(value.one), change(value.three))
    except ValueError:
        raise Misfit from None


def unary(graph: Builder) -> Tensor:
    value = graph.any()
    return Tensor(graph.op(graph.random.choice(["Relu", "Sigmoid", "Neg", "Abs"]), value.name), value.one, value.three)


def broadcast(one: Tensor, other: Tensor, name: str) -> Tensor:
    try:
        return Tensor(name, np.broadcast_shapes(one.one, other.one), np.broadcast_shapes(one.three, other.three))
    except ValueError:
        raise Misfit from None


def binary(graph: Builder) -> Tensor:
    one, other = graph.any(), graph.any()
    kind = graph.random.choice(["Add", "Mul", "Sub", "Max"])
    found = broadcast(one, other, "")
    return Tensor(graph.op(kind, one.name, other.name), found.one, found.three)


def with_constant(graph: Builder) -> Tensor:
    value = graph.any()
    dims = tuple(graph.random.choice([1, dim]) for dim in graph.random.choice([value.one, value.three]))
    dims = dims[graph.random.randrange(len(dims) + 1) :]
    found = broadcast(value, Tensor("", dims, dims), "")
    return Tensor(graph.op("Add", value.name, graph.weights(dims)), found.one, found.three)


def transpose(graph: Builder) -> Tensor:
    value = graph.any()
    graph.axis(value)
    order = list(range(value.rank))
    graph.random.shuffle(order)
    name = graph.op("Transpose", value.name, perm=order)
    return both(lambda dims: tuple(dims[axis] for axis in order), value, name)


def reshaped(dims: Dims, target: list[int]) -> Dims:
    wanted = [dims[place] if size == 0 and place < len(dims) else size for place, size in enumerate(target)]
    known = prod(size for size in wanted if size != -1)
    if -1 not in wanted:
        if known != prod(dims):
            raise ValueError
        return tuple(wanted)
    if not known or prod(dims) % known:
        raise ValueError
    return tuple(prod(dims) // known if size == -1 else size for size in wanted)


def reshape(graph: Builder) -> Tensor:
    value, random = graph.any(), graph.random
    sizes = [0, -1, 1, 2, 3, 4, 6, *value.one]
    target = [random.choice(sizes) for _ in range(random.randrange(1, 5))]
    if target.count(-1) > 1 or any(size == 0 and place >= value.rank for place, size in enumerate(target)):
        raise Misfit
    found = both(lambda dims: reshaped(dims, target), value, "")
    return Tensor(graph.op("Reshape", value.name, graph.constant(target)), found.one, found.three)


def regroup(graph: Builder) -> Tensor:
    """A reshape whose target counts the rows, somewhere."""
    value, random = graph.any(), graph.random
    before = [random.choice([1, 2, 3, 4]) for _ in range(random.randrange(3))]
    after = [random.choice([-1, 1, 2, 3, 4])] if random.random() < 0.8 else []
    times = random.choice([1, 1, 1, 2, 3])

    try:
        one, three = (
            reshaped(dims, [*before, times * rows, *after]) for dims, rows in ((value.one, ONE), (value.three, THREE))
        )
    except ValueError:
        raise Misfit from None
    count = graph.op("Mul", graph.rows(), graph.constant([times]))
    parts = [graph.constant(before)] if before else []
    parts += [count, *([graph.constant(after)] if after else [])]
    return Tensor(graph.op("Reshape", value.name, graph.op("Concat", *parts, axis=0)), one, three)


def flatten(graph: Builder) -> Tensor:
    value = graph.any()
    axis = graph.random.randrange(value.rank + 1)
    name = graph.op("Flatten", value.name, axis=axis)
    return both(lambda dims: (prod(dims[:axis]), prod(dims[axis:])), value, name)


def reduce(graph: Builder) -> Tensor:
    value = graph.any()
    axis, keep = graph.axis(value), graph.random.randrange(2)
    kind = graph.random.choice(["ReduceMax", "ReduceMean", "ReduceSum"])
    name = graph.op(kind, value.name, graph.constant([axis]), keepdims=keep)
    return both(lambda dims: (*dims[:axis], *[1] * keep, *dims[axis + 1 :]), value, name)


def along(graph: Builder) -> Tensor:
    value = graph.any()
    axis = graph.axis(value)
    kind = graph.random.choice(["Softmax", "CumSum", "LpNormalization"])
    if kind == "CumSum":
        return Tensor(graph.op(kind, value.name, graph.constant(axis)), value.one, value.three)
    return Tensor(graph.op(kind, value.name, axis=axis), value.one, value.three)


def product_with_constant(graph: Builder) -> Tensor:
    value, size = graph.any(), graph.random.choice([1, 2, 3])
    if not value.rank or value.one[-1] != value.three[-1]:
        raise Misfit
    name = graph.op("MatMul", value.name, graph.weights((value.one[-1], size)))
    return both(lambda dims: (*dims[:-1], size), value, name)


def constant_with_product(graph: Builder) -> Tensor:
    value = graph.any()
    if value.rank < 2 or value.one[-2] != value.three[-2]:
        raise Misfit
    name = graph.op("MatMul", graph.weights((2, value.one[-2])), value.name)
    return both(lambda dims: (*dims[:-2], 2, dims[-1]), value, name)


def product(graph: Builder) -> Tensor:
    one, other = graph.any(), graph.any()
    try:
        dims = [
            np.matmul(np.zeros(left), np.zeros(right)).shape
            for left, right in ((one.one, other.one), (one.three, other.three))
        ]
    except ValueError:
        raise Misfit from None
    return Tensor(graph.op("MatMul", one.name, other.name), dims[0], dims[1])


def concat(graph: Builder) -> Tensor:
    one, other = graph.any(), graph.any()
    axis = graph.axis(one)
    without = [dims[:axis] + dims[axis + 1 :] for dims in (one.one, other.one, one.three, other.three)]
    if one.rank != other.rank or without[0] != without[1] or without[2] != without[3]:
        raise Misfit
    name = graph.op("Concat", one.name, other.name, axis=axis)

    def joined(dims: Dims, more: Dims) -> Dims:
        return (*dims[:axis], dims[axis] + more[axis], *dims[axis + 1 :])

    return Tensor(name, joined(one.one, other.one), joined(one.three, other.three))


def slice_(graph: Builder) -> Tensor:
    value, random = graph.any(), graph.random
    axis = graph.axis(value)
    start, end, step = random.choice([(0, 1, 1), (1, 99, 1), (0, 1 << 40, 1), (0, -1, 1), (-1, -99, -1), (0, 99, 2)])
    bounds = [graph.constant([item]) for item in (start, end, axis, step)]
    name = graph.op("Slice", value.name, *bounds)

    def cut(dims: Dims) -> Dims:
        bound = None if step < 0 and end < -dims[axis] else end
        left = len(range(dims[axis])[slice(start, bound, step)])
        if not left:
            raise ValueError
        return (*dims[:axis], left, *dims[axis + 1 :])

    return both(cut, value, name)


def gather(graph: Builder) -> Tensor:
    value = graph.any()
    axis = graph.axis(value)
    choices: list[Any] = [[0], [0, -1], [[0, 0], [-1, 0]], 0]
    places = graph.random.choice(choices)
    name = graph.op("Gather", value.name, graph.constant(places), axis=axis)
    return both(lambda dims: (*dims[:axis], *np.shape(places), *dims[axis + 1 :]), value, name)


def looked_up(graph: Builder) -> Tensor:
    """Weights chosen by the largest along an axis."""
    value = graph.any()
    axis = graph.axis(value)
    if value.one[axis] != value.three[axis]:
        raise Misfit
    places = graph.op("ArgMax", value.name, axis=axis, keepdims=0)
    name = graph.op("Gather", graph.weights((value.one[axis], 2)), places)
    return both(lambda dims: (*dims[:axis], *dims[axis + 1 :], 2), value, name)


def unsqueeze(graph: Builder) -> Tensor:
    value = graph.any()
    if value.rank > 4:
        raise Misfit
    axis = graph.random.randrange(value.rank + 1)
    name = graph.op("Unsqueeze", value.name, graph.constant([axis]))
    return both(lambda dims: (*dims[:axis], 1, *dims[axis:]), value, name)


def squeeze(graph: Builder) -> Tensor:
    value = graph.any()
    axes = [axis for axis in range(value.rank) if value.one[axis] == value.three[axis] == 1]
    if not axes:
        raise Misfit
    axis = graph.random.choice(axes)
    name = graph.op("Squeeze", value.name, graph.constant([axis]))
    return both(lambda dims: (*dims[:axis], *dims[axis + 1 :]), value, name)


def tile(graph: Builder) -> Tensor:
    value = graph.any()
    times = [graph.random.choice([1, 1, 2]) for _ in range(value.rank)]
    if not times:
        raise Misfit
    name = graph.op("Tile", value.name, graph.constant(times))
    return both(lambda dims: tuple(dim * by for dim, by in zip(dims, times, strict=True)), value, name)


def expanded_constant(graph: Builder) -> Tensor:
    """Weights for each row: the same for all of them, or of their number."""
    inner = [graph.random.choice([1, 2, 3]) for _ in range(graph.random.randrange(3))]
    front = graph.random.choice([1, 1, 3])
    target = graph.op("Concat", graph.rows(), graph.constant(inner), axis=0) if inner else graph.rows()
    name = graph.op("Expand", graph.weights((front, *inner)), target)
    if front == THREE:
        return Tensor(name, (THREE, *inner), (THREE, *inner))
    return Tensor(name, (ONE, *inner), (THREE, *inner))


def by_number(graph: Builder) -> Tensor:
    """Divided by the number of rows."""
    value = graph.any()
    number = graph.op("Cast", graph.rows(), to=TensorProto.FLOAT)
    return Tensor(graph.op("Div", value.name, number), value.one or (1,), value.three or (1,))


def by_place(graph: Builder) -> Tensor:
    """Numbers that identify the place of each row."""
    scalar = graph.op("Squeeze", graph.rows(), graph.constant([0]))
    places = graph.op("Range", graph.constant(0), scalar, graph.constant(1))
    return Tensor(graph.op("Cast", places, to=TensorProto.FLOAT), (ONE,), (THREE,))


STEPS: list[Step] = [
    *[transpose, reshape, regroup, binary] * 2,
    *[unary, with_constant, flatten, reduce, along, product_with_constant, constant_with_product, product, concat],
    *[slice_, gather, looked_up, unsqueeze, squeeze, tile, expanded_constant],
]
COUNTING: list[Step] = [by_number, by_place]


def random_graph(seed: int, steps: int) -> onnx.ModelProto:
    """A graph of so many steps; those that do not fit what is there are left out."""
    random = Random(seed)
    graph = Builder(random)
    inner = tuple(random.choice([1, 2, 3, 4]) for _ in range(random.randrange(1, 4)))
    inputs = [Tensor("x", (ONE, *inner), (THREE, *inner))]
    if random.random() < 0.4:
        more = inner if random.random() < 0.6 else (random.choice([1, 2, 3]),)
        inputs.append(Tensor("z", (ONE, *more), (THREE, *more)))
    graph.values = list(inputs)
    allowed = STEPS + (COUNTING if random.random() < 0.2 else [])
    while steps:
        steps -= _grown(graph, random.choice(allowed)) or random.random() < 0.2
    return graph.model(_output(graph), inputs)


def _grown(graph: Builder, step: Step) -> bool:
    """Whether a step fitted; if not, nothing is left of it."""
    kept = len(graph.nodes), len(graph.constants)
    try:
        value = step(graph)
        if prod(value.three) > MOST_ELEMENTS or value.rank > MOST_DIMS:
            raise Misfit
    except Misfit:
        del graph.nodes[kept[0] :], graph.constants[kept[1] :]
        return False
    graph.values.append(value)
    return True


def _output(graph: Builder) -> Tensor:
    """One of the last values, with the axis that has as many places as there are rows in front, if it has one."""
    for value in graph.values[:-4:-1]:
        for axis in range(value.rank):
            if (value.one[axis], value.three[axis]) == (ONE, THREE):
                order = [axis, *[number for number in range(value.rank) if number != axis]]
                name = graph.op("Transpose", value.name, perm=order) if axis else value.name
                return Tensor(name, *(tuple(dims[item] for item in order) for dims in (value.one, value.three)))
    return graph.values[-1]
