from typing import Any

import pytest

from penstock.core.options import ModelOptions, TensorOptions
from penstock.core.signature import TensorSpec
from penstock.engine.faults import LoadFailed
from penstock.engine.graph import DATATYPES, GraphInterface, GraphTensor, infer_signature

Dims = tuple[int | str | None, ...]


def graph_of(
    *shapes: Dims, to: Dims | list[Dims] = ("N", 1), known: bool = False, free: tuple[Dims, ...] = ()
) -> GraphInterface:
    results = to if isinstance(to, list) else [to]
    return GraphInterface(
        tuple(GraphTensor(f"x{index}", "tensor(float)", shape) for index, shape in enumerate(shapes)),
        tuple(GraphTensor(f"y{index}", "tensor(float)", shape) for index, shape in enumerate(results)),
        tuple(GraphTensor(f"w{index}", "tensor(float)", shape) for index, shape in enumerate(free)),
        known,
    )


def stated(name: str, *dims: int, **more: Any) -> TensorOptions:
    return TensorOptions(name, more.pop("datatype", "FP32"), dims, **more)


def test_every_type_of_the_protocol_has_a_type_of_the_runtime() -> None:
    assert len(DATATYPES) == 14
    assert set(DATATYPES.values()) == {
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
        "FP16", "FP32", "FP64", "BF16", "BYTES",
    }  # fmt: skip


def test_names_and_unknown_dimensions_are_free() -> None:
    spec = infer_signature(graph_of(("N", None, 3)), ModelOptions()).inputs[0]
    assert spec == TensorSpec("x0", "FP32", (-1, -1, 3))


@pytest.mark.parametrize(
    ("graph", "batching"),
    [
        (graph_of(("N", 3)), True),
        (graph_of((None, 3), to=(None,)), True),
        (graph_of(("N", 3), to=("made_up_by_an_exporter", 1)), True),
        (graph_of(("N", 3), ("N", 4)), True),
        (graph_of(("N", 3), (None, 4)), True),
        (graph_of(("N", 3), ("M", 4)), False),  # two sizes
        (graph_of(("N", "N")), False),  # a square
        (graph_of(("N", "T"), to=("T", 2)), False),  # the batch is not the output's first dimension
        (graph_of((1, 3)), False),
        (graph_of(("N", 3), to=(1,)), False),
        (graph_of(("N", 3), to=()), False),
        (graph_of(("N", 3), ()), False),
        (graph_of((), to=()), False),
        (graph_of(to=("N",)), False),
    ],
)
def test_batching_is_derived_from_the_graph(graph: GraphInterface, batching: bool) -> None:
    signature = infer_signature(graph, ModelOptions())
    assert signature.batching is batching
    assert signature.max_batch_size == 0


def test_zero_is_a_model_that_does_not_batch() -> None:
    signature = infer_signature(graph_of(("N", 3)), ModelOptions(max_batch_size=0, inputs=(stated("x0", -1, 3),)))
    assert not signature.batching
    assert signature.inputs[0].shape == (-1, 3)


def test_a_stated_bound_adds_the_batch_dimension_to_dims() -> None:
    options = ModelOptions(max_batch_size=8, inputs=(stated("x0", 3),), outputs=(stated("y0", 1, labels=("a",)),))
    signature = infer_signature(graph_of(("N", None)), options)
    assert (signature.batching, signature.max_batch_size) == (True, 8)
    assert signature.inputs[0].shape == (-1, 3)  # narrower than the graph is allowed
    assert signature.outputs[0].labels == ("a",)


def test_dims_with_a_fixed_first_dimension_stop_derived_batching() -> None:
    assert not infer_signature(graph_of(("N", 3)), ModelOptions(inputs=(stated("x0", 1, 3),))).batching


def test_reshape_is_the_graphs_side() -> None:
    options = ModelOptions(
        max_batch_size=4, inputs=(stated("x0", 1, reshape=()),), outputs=(stated("y0", 2, 3, reshape=(6,)),)
    )
    signature = infer_signature(graph_of(("N",), to=("N", 6)), options)
    assert (signature.inputs[0].shape, signature.inputs[0].graph_shape) == ((-1, 1), (-1,))
    assert (signature.outputs[0].shape, signature.outputs[0].graph_shape) == ((-1, 2, 3), (-1, 6))


def test_a_scalar_can_be_reshaped_to() -> None:
    options = ModelOptions(max_batch_size=0, inputs=(stated("x0", 1, reshape=()),))
    spec = infer_signature(graph_of((), to=()), options).inputs[0]
    assert (spec.shape, spec.graph_shape) == ((1,), ())


def test_initialisers_that_may_be_replaced_are_left_alone_unless_stated() -> None:
    graph = graph_of(("N", 3), free=((3,),))
    assert [spec.name for spec in infer_signature(graph, ModelOptions()).inputs] == ["x0"]
    options = ModelOptions(inputs=(stated("w0", 3, optional=True),))
    assert infer_signature(graph, options).inputs[1] == TensorSpec("w0", "FP32", (3,), optional=True)


def test_ranks_seen_in_a_run_fill_what_the_graph_left_open() -> None:
    graph = graph_of(("N", 3), to=[(), ("N",)])
    assert not infer_signature(graph, ModelOptions()).batching
    seen = graph.with_observed_shapes([[(1, 5), (1,)]])
    assert infer_signature(seen, ModelOptions()).outputs[0].shape == (-1, -1)
    assert infer_signature(seen, ModelOptions()).batching
    assert graph.with_observed_shapes([[(), (1,)]]).outputs[0].shape == ()


@pytest.mark.parametrize(
    ("stated_shape", "shapes", "shape"),
    [
        ((1,), [(1,), (2,)], (-1,)),  # what onnxmltools writes for the labels of LightGBM
        ((1,), [(1,), (1,)], (1,)),
        ((1,), [(3,)], (-1,)),
        ((1, 4), [(1, 4), (2, 4)], (-1, 4)),
        ((2, 7), [(1, 4), (2, 4)], (-1, -1)),
        (("N", 4), [(1, 4), (2, 4)], (-1, 4)),
        ((5,), [(1, 5), (2, 5)], (-1, -1)),
    ],
)
def test_a_fixed_dimension_that_a_run_contradicts_is_free(
    stated_shape: tuple[int | str, ...], shapes: list[tuple[int, ...]], shape: tuple[int, ...]
) -> None:
    graph = graph_of(("N", 3), to=[stated_shape]).with_observed_shapes([[shape] for shape in shapes])
    assert infer_signature(graph, ModelOptions()).outputs[0].shape == shape


def test_an_output_of_unknown_rank_may_be_stated() -> None:
    options = ModelOptions(max_batch_size=2, outputs=(stated("y0", 5),))
    graph = graph_of(("N", 3), to=())
    assert infer_signature(graph, options).outputs[0].shape == (-1, 5)
    assert infer_signature(graph, ModelOptions(max_batch_size=2)).batching  # a run will show it
    with pytest.raises(LoadFailed, match=r"max_batch_size 2 needs .* output 'y0' has the shape \[\]"):
        infer_signature(graph.with_observed_shapes([[()]]), ModelOptions(max_batch_size=2))


@pytest.mark.parametrize(
    ("graph", "options", "text"),
    [
        (graph_of(("N", 3)), ModelOptions(inputs=(stated("z", 3),)), r"states the input 'z', .* are: 'x0'"),
        (graph_of(("N", 3)), ModelOptions(outputs=(stated("z", 3),)), r"states the output 'z', .* are: 'y0'"),
        (graph_of(("N",)), ModelOptions(inputs=(stated("x0", -1), stated("x0", -1))), "states an input twice"),
        (graph_of(("N", 3)), ModelOptions(inputs=(stated("x0", -1, 4),)), r"'x0' as \[-1, 4\], .* has \[-1, 3\]"),
        (graph_of(("N", 3)), ModelOptions(inputs=(stated("x0", 3),)), r"'x0' as \[3\], but the graph has \[-1, 3\]"),
        (graph_of(("N", 3)), ModelOptions(inputs=(stated("x0", -1, -1),)), r"as \[-1, -1\]"),
        (graph_of((3,)), ModelOptions(inputs=(stated("x0", 3, datatype="INT8"),)), "as INT8, but the graph has FP32"),
        (graph_of((3,)), ModelOptions(inputs=(stated("x0", 3, optional=True),)), "'x0' optional, .* requires it"),
        (graph_of((1, 3)), ModelOptions(max_batch_size=8), r"max_batch_size 8 .* input 'x0' has the shape \[1, 3\]"),
        (graph_of(("N", 3), to=(1,)), ModelOptions(max_batch_size=8), r"output 'y0' has the shape \[1\]"),
        (graph_of((), to=("N",)), ModelOptions(max_batch_size=8), r"input 'x0' has the shape \[\]"),
        (graph_of(to=("N",)), ModelOptions(max_batch_size=8), "the graph takes none"),
        (graph_of((4,)), ModelOptions(inputs=(stated("x0", 2, 3, reshape=(4,)),)), "changes its size"),
        (graph_of((None, None)), ModelOptions(inputs=(stated("x0", -1, reshape=(-1, -1)),)), "one free dimension"),
        (graph_of((None,)), ModelOptions(inputs=(stated("x0", 3, reshape=(-1,)),)), "on both sides"),
    ],
)  # fmt: skip
def test_contradictions_say_what_is_wrong(graph: GraphInterface, options: ModelOptions, text: str) -> None:
    with pytest.raises(LoadFailed, match=text):
        infer_signature(graph, options)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("seq(map(int64,tensor(float)))", "output 'p' is .*only tensors"),
        (
            "seq(tensor(float))",
            r"output 'p' is seq\(tensor\(float\)\); only tensors can be served; export its tensors as outputs",
        ),
        ("optional(tensor(float))", "only tensors"),
        ("sparse_tensor(float)", "only tensors"),
        ("tensor(float8e4m3fn)", "a type the protocol cannot carry"),
    ],
)
def test_an_unsupported_tensor_type_is_refused(kind: str, text: str) -> None:
    graph = GraphInterface((GraphTensor("x", "tensor(float)", ("N",)),), (GraphTensor("p", kind, ()),))
    with pytest.raises(LoadFailed, match=text):
        infer_signature(graph, ModelOptions())


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (graph_of(("batch", "seq"), ("batch", "seq")), {"batch": [0, 0], "seq": [1, 1]}),
        (graph_of(("N", 3), ("N", 4)), {"N": [0, 0]}),
        (graph_of(("N", "M"), ("N", "L")), {"N": [0, 0]}),
        (graph_of(("N", "N")), {"N": [0, 1]}),
        (graph_of(("N", 3)), {}),
        (graph_of((None, None), (None, None)), {}),
        (graph_of(("?", "None"), ("?", "None"), ("", -1)), {}),
    ],
)
def test_names_of_several_dimensions_are_kept(graph: GraphInterface, expected: dict[str, list[int]]) -> None:
    found = infer_signature(graph, ModelOptions()).symbolic_dims
    assert {dim: [axis for _, axis in places] for dim, places in found.items()} == expected


def test_what_the_configuration_reshapes_has_no_names() -> None:
    options = ModelOptions(inputs=(stated("x0", -1, reshape=(-1, 1)),))
    assert infer_signature(graph_of(("N", "M"), ("N", "M")), options).symbolic_dims == {}
