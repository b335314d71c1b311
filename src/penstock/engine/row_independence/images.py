"""Convolutions, pools and what else works on channels and places: the first axis holds the rows."""

from collections.abc import Callable, Sequence

from penstock.engine.row_independence.operation import Operation, rows_at
from penstock.engine.row_independence.sizes import ONE, SymbolicSize
from penstock.engine.row_independence.values import GraphValue, NotProven, laid_out


def convolution(op: Operation) -> list[GraphValue]:
    """Conv (and FusedConv), with weights that are the same for all rows."""
    return [_convolve(op, op.tensor(0), 1, op.fixed(1), (2,))]


def integer_convolution(op: Operation) -> list[GraphValue]:
    """ConvInteger."""
    op.single(2)
    return [_convolve(op, op.tensor(0), 1, op.fixed(1), (3,))]


def quantized_convolution(op: Operation) -> list[GraphValue]:
    """QLinearConv (x, x's scale and zero point, w, w's, the result's, bias)."""
    op.single(1, 2, 6, 7)
    return [_convolve(op, op.tensor(0), 3, op.fixed(3), (4, 5, 8))]


def _convolve(
    op: Operation, value: GraphValue, weights_at: int, weights: GraphValue, others: Sequence[int]
) -> GraphValue:
    op.require_fixed(weights_at, *others)
    rows_at(value, 0)
    kernel = [size.number for size in weights.shape[2:]]
    return laid_out([value.shape[0], weights.shape[0], *_find_places(op, value, kernel)], value.rows)


def transposed_convolution(op: Operation) -> list[GraphValue]:
    """ConvTranspose."""
    value, weights = op.tensor(0), op.fixed(1)
    op.require_fixed(2)
    rows_at(value, 0)
    number, group = weights.shape[1].number, op.integer("group", 1)
    channels = op.fresh() if number is None else SymbolicSize(number * group)
    return [laid_out([value.shape[0], channels, *(op.fresh() for _ in value.shape[2:])], value.rows)]


def pool(op: Operation) -> list[GraphValue]:
    """MaxPool, AveragePool and LpPool; where the largest was is counted through all rows."""
    value = op.tensor(0)
    if op.gives(1):
        raise NotProven("returns positions counted through all rows")
    rows_at(value, 0)
    kernel = op.integers("kernel_shape") or ()
    return [laid_out([*value.shape[:2], *_find_places(op, value, kernel)], value.rows)]


def global_pool(op: Operation) -> list[GraphValue]:
    """GlobalAveragePool, GlobalMaxPool and GlobalLpPool."""
    value = op.tensor(0)
    rows_at(value, 0)
    return [laid_out([*value.shape[:2], *[ONE] * (value.rank - 2)], value.rows)]


def _find_places(op: Operation, value: GraphValue, kernel: Sequence[int | None]) -> list[SymbolicSize]:
    """The dimensions of a convolution or pool behind the channels, as far as they are known."""
    dims = value.shape[2:]
    ones = (1,) * len(dims)
    strides, dilations = op.integers("strides") or ones, op.integers("dilations") or ones
    pads, mode = op.integers("pads") or (0,) * (2 * len(dims)), op.text("auto_pad", "NOTSET")
    places = []
    for axis, size in enumerate(dims):
        added = pads[axis] + pads[axis + len(dims)]
        window = kernel[axis]
        reach = None if window is None else dilations[axis] * (window - 1) + 1
        number = _place_count(size.number, reach, strides[axis], added, mode, op.flag("ceil_mode"))
        places.append(op.fresh() if number is None else SymbolicSize(number))
    return places


def _place_count(
    length: int | None, reach: int | None, stride: int, added: int, mode: str, ceiling: bool
) -> int | None:
    if length is None or reach is None or (ceiling and mode == "NOTSET"):  # runtimes differ in how they round up
        return None
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return -(-length // stride)
    return (length + (added if mode == "NOTSET" else 0) - reach) // stride + 1


def depth_to_space(op: Operation) -> list[GraphValue]:
    """DepthToSpace."""
    return _regrouped_channels(op, lambda channels, block: _divide_size(op, channels, block * block), up=True)


def space_to_depth(op: Operation) -> list[GraphValue]:
    """SpaceToDepth."""
    return _regrouped_channels(op, lambda channels, block: channels * SymbolicSize(block * block), up=False)


def _regrouped_channels(
    op: Operation, channels: Callable[[SymbolicSize, int], SymbolicSize], up: bool
) -> list[GraphValue]:
    value, block = op.tensor(0), op.integer("blocksize", 1)
    rows_at(value, 0)
    first, depth, *places = value.shape
    scaled = [size * SymbolicSize(block) if up else _divide_size(op, size, block) for size in places]
    return [laid_out([first, channels(depth, block), *scaled], value.rows)]


def _divide_size(op: Operation, size: SymbolicSize, by: int) -> SymbolicSize:
    return size.divided_by(SymbolicSize(by)) or op.fresh()


def grid_sample(op: Operation) -> list[GraphValue]:
    """GridSample, with a grid for each row."""
    value, grid = op.tensor(0), op.tensor(1)
    if rows_at(value, 0) != rows_at(grid, 0):
        raise NotProven("samples rows by a grid of other rows")
    return [laid_out([*value.shape[:2], *grid.shape[1:-1]], value.rows)]


def resize(op: Operation) -> list[GraphValue]:
    """Resize: every row by itself, at its own size."""
    value = op.tensor(0)
    if op.version < 11:
        return _scale(op, value, 1)
    op.require_fixed(1, 2)
    if op.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise NotProven("resizes a region that may cross the rows")
    if op.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotProven("takes one scale for all axes")
    if not op.has(3):
        return _scale(op, value, 2)
    sizes = op.sizes(3)
    dims = list(value.shape)
    for axis, size in zip(_resized_axes(op, value), sizes, strict=True):
        if value.rows is not None and axis == value.rows.axis:
            _check_kept(size == value.rows.size)
        else:
            _check_kept(size is None or not size.counts_rows)
            dims[axis] = size or op.fresh()
    return [laid_out(dims, value.rows)]


def upsample(op: Operation) -> list[GraphValue]:
    """Upsample of operator sets before 10."""
    if op.version < 9:
        raise NotProven("belongs to an operator set that is too old")
    return _scale(op, op.tensor(0), 1)


def _scale(op: Operation, value: GraphValue, scales_at: int) -> list[GraphValue]:
    """By factors, of which that of the rows must be known to be 1."""
    factors, axes = op.fixed(scales_at).decimals, _resized_axes(op, value)
    dims = list(value.shape)
    for place, axis in enumerate(axes):
        if value.rows is not None and axis == value.rows.axis:
            _check_kept(factors is not None and factors[place] == 1)
        else:
            dims[axis] = op.fresh()
    return [laid_out(dims, value.rows)]


def _resized_axes(op: Operation, value: GraphValue) -> Sequence[int]:
    axes = op.integers("axes")
    return range(value.rank) if axes is None else [axis % value.rank for axis in axes]


def _check_kept(kept: bool) -> None:
    if not kept:
        raise NotProven("changes the number of rows")
