"""Random text pipelines: whatever is proven answers rows together as alone, whatever the texts hold."""

from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from tests.budgets import examples
from tests.unit.engine.row_independence.runs import apart, differs, together

PIECES = ["a", "b", "ab", "#", "", " ", "\x02", "\x03", "c,", "A#b"]
"""What texts, terms and paddings are made of: each can be any of them."""

CUTS: list[dict[str, Any]] = [{"tokenexp": "[a-b]+"}, {"tokenexp": "."}, {"separators": [" "]}, {"separators": [""]}]

CORPUS = 80

texts = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


def random_pipeline(seed: int) -> onnx.ModelProto:
    """One or two columns of texts, normalised, cut into pieces, flattened, counted, and scaled."""
    random = Random(seed)
    columns = random.choice([[], [], [1], [2]])
    nodes = _normalized(random) if not columns and random.random() < 0.5 else []
    nodes.append(helper.make_node("Identity", [nodes[0].output[0] if nodes else "s"], ["cut"]))
    nodes.append(_cut(random))
    flattened = bool(columns) or random.random() < 0.5
    if flattened:
        nodes.append(helper.make_node("Flatten", ["pieces"], ["flat"]))
    nodes.append(_counted(random, "flat" if flattened else "pieces"))
    nodes.append(helper.make_node("Normalizer", ["counts"], ["y"], domain="ai.onnx.ml", norm="L2"))
    inputs = [helper.make_tensor_value_info("s", TensorProto.STRING, ["N", *columns])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    domains = {"": 20, "ai.onnx.ml": 3, "com.microsoft": 1}
    opsets = [helper.make_opsetid(*item) for item in domains.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _normalized(random: Random) -> list[onnx.NodeProto]:
    stopwords = random.choice([[], [], ["a"], ["#", "ab"]])
    more: dict[str, Any] = {"stopwords": stopwords} if stopwords else {}
    action = random.choice(["LOWER", "UPPER", "NONE"])
    return [helper.make_node("StringNormalizer", ["s"], ["normal"], case_change_action=action, locale="C", **more)]


def _cut(random: Random) -> onnx.NodeProto:
    if random.random() < 0.3:
        return helper.make_node("StringSplit", ["cut"], ["pieces", "number"], delimiter=random.choice([" ", "b", ""]))
    how = random.choice(CUTS)
    shortest = 1 if how in ({"separators": [""]}, {"tokenexp": "."}) else random.choice([1, 1, 2])
    more: dict[str, Any] = {**how, "mark": int(random.random() < 0.2), "mincharnum": shortest}
    padding = random.choice(["#", "#", "", "b"])
    return helper.make_node("Tokenizer", ["cut"], ["pieces"], domain="com.microsoft", pad_value=padding, **more)


def _counted(random: Random, pieces: str) -> onnx.NodeProto:
    single = random.sample(PIECES[:8], random.choice([1, 2, 3]))
    pairs = [tuple(random.choices(single, k=2))] if random.random() < 0.5 else []
    return helper.make_node(
        "TfIdfVectorizer",
        [pieces],
        ["counts"],
        mode=random.choice(["TF", "IDF", "TFIDF"]),
        min_gram_length=1,
        max_gram_length=1 + bool(pairs),
        max_skip_count=random.choice([0, 1, 3]),
        ngram_counts=[0, *([len(single)] if pairs else [])],
        ngram_indexes=list(range(len(single) + len(pairs))),
        pool_strings=[*single, *(text for pair in pairs for text in pair)],
    )


def difference(model: onnx.ModelProto, values: list[str]) -> str:
    dims = [dim.dim_value or -1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    width = abs(dims[-1]) if len(dims) > 1 else 1
    rows = np.array([values[place : place + width] for place in range(len(values) - width + 1)], object)
    feeds = {"s": rows if len(dims) > 1 else rows[:, 0]}
    return differs(together(model, feeds), apart(model, feeds))


@settings(deadline=None, max_examples=examples(150))
@given(st.integers(0, 1 << 30).map(random_pipeline), st.lists(texts, min_size=2, max_size=6))
def test_what_is_proven_is_answered_together_as_alone(model: onnx.ModelProto, values: list[str]) -> None:
    if prove(read_plain(model)).independent:
        assert difference(model, values) == ""


@pytest.mark.simulation
def test_most_of_what_is_answered_alike_is_proven() -> None:
    random = Random(3)
    batches = [["".join(random.choices(PIECES, k=random.randrange(5))) for _ in range(6)] for _ in range(4)]
    models = [random_pipeline(seed) for seed in range(CORPUS)]
    proven = [prove(read_plain(model)).independent for model in models]
    alike = [all(difference(model, values) == "" for values in batches) for model in models]
    assert CORPUS / 6 < sum(proven) < 4 * CORPUS / 5
    assert all(same for shown, same in zip(proven, alike, strict=True) if shown)
    assert sum(proven) > 0.5 * sum(alike)
