"""The nodes that guards are made of have names that nothing in the graph has."""

from onnx import helper, numpy_helper

from penstock.engine.faults import GUARD
from penstock.registry.graphs.guards import NodeBuilder, all_nodes
from tests import zoo


def test_no_two_nodes_share_a_name_and_each_result_has_its_nodes() -> None:
    builder = NodeBuilder(zoo.identity("FP32"))
    nodes = [builder.node("Equal", "a", "b"), builder.node("Equal", "a", "b"), builder.constant([1, 2])]
    assert len({node.name for node in nodes}) == 3
    assert [list(node.output) for node in nodes] == [[node.name] for node in nodes]
    assert numpy_helper.to_array(nodes[2].attribute[0].t).tolist() == [1, 2]


def test_names_keep_clear_of_those_in_the_graph_also_where_it_was_guarded_before() -> None:
    model = zoo.identity("FP32")
    model.graph.node.append(helper.make_node("Identity", [model.graph.input[0].name], [f"{GUARD}_x"], name=f"{GUARD}y"))
    before = {name for node in all_nodes(model.graph) for name in (node.name, *node.input, *node.output)}
    builder = NodeBuilder(model)
    prefix = builder.name("Equal").removesuffix("Equal_1")
    assert not [name for name in before if name.startswith(prefix)]
    assert builder.opset == zoo.identity("FP32").opset_import[0].version
