"""Metadata and model cards: what they may hold, from documents and from words."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.lineage import card_features, card_of, metadata_of, metadata_of_pairs

GOOD: dict[str, Any] = {
    "data_digest": "sha256:" + "a" * 64,
    "code_commit": "abcdef0",
    "parent": "1.4.0",
    "source": "a notebook",
    "parameters": {"depth": 4, "loss": "log", "shuffle": True},
    "metrics": {"accuracy": 0.97},
    "frameworks": {"scikit-learn": "1.7"},
    "tags": {"stage": "test"},
    "card": {"summary": "s", "owners": ["ann"], "features": {"age": "in years"}},
}


def test_what_a_registry_owes_is_kept_as_it_is() -> None:
    assert metadata_of(GOOD) == GOOD


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data_digest", "md5:aa"),
        ("code_commit", "not hex"),
        ("parent", "champion"),
        ("source", ""),
        ("source", "x" * 501),
        ("parameters", {"a": [1]}),
        ("parameters", {"": 1}),
        ("parameters", {"a": float("nan")}),
        ("metrics", {"a": "high"}),
        ("metrics", {"a": True}),
        ("metrics", {"a": float("inf")}),
        ("metrics", [1]),
        ("frameworks", {"a": 1}),
        ("tags", {str(number): 1 for number in range(201)}),
        ("card", "s"),
        ("card", {"owners": ["ann"]}),
        ("card", {"summary": "s", "owners": "ann"}),
        ("card", {"summary": "s", "title": "t"}),
        *(
            ("card", {"summary": "s", "features": features})
            for features in (
                ["a", "a"],
                ["a", 5],
                [],
                "a",
                {"a": 5},
                {"a": {"default": [1]}},
                {"a": {"default": float("inf")}},
                {"a": {"description": 5}},
                {"a": {"means": "years"}},
            )
        ),
        ("colour", "red"),
    ],
)
def test_every_fault_is_reported(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=name if name != "card" else "card"):
        metadata_of({**GOOD, name: value})


@pytest.mark.parametrize(
    "features",
    [["a", "b"], {"a": "in years", "b": {"description": "m", "default": 1.5}}, {"a": {"default": None}, "b": {}}],
)
def test_a_card_lists_features_or_describes_them(features: Any) -> None:
    card = card_of({"summary": "s", "features": features})
    assert card["features"] == features
    assert card_features(card) == ("a", "b")


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(InvalidInput, match=r"colour.*parent of metadata"):
        metadata_of({"colour": 1, "parent": "x"})
    with pytest.raises(InvalidInput, match="no summary"):
        card_of({})


@pytest.mark.parametrize("text", ["half \ud800", "nul \x00", "red \x1b[31m"])
def test_texts_that_no_database_or_terminal_bears_are_refused(text: str) -> None:
    for document in ({"source": text}, {"tags": {"a": text}}, {"card": {"summary": "s", "owners": [text]}}):
        with pytest.raises(InvalidInput):
            metadata_of(document)


def test_everything_together_fits_into_a_header() -> None:
    card = {"summary": "s" * 20_000, "limitations": "l" * 20_000}
    assert metadata_of({"card": card})["card"] == card
    with pytest.raises(InvalidInput, match="together"):
        metadata_of({"card": {**card, "ethics": "\u4e2d" * 2000}})


def test_text_become_values() -> None:
    pairs = {
        "parameters.depth": "4",
        "parameters.rate": "1e-3",
        "parameters.shuffle": "true",
        "metrics.accuracy": "0.97",
        "frameworks.numpy": "2.0",
        "parent": "3",
        "stage": "test",
        "odd.key": "7",
        "limit": "inf",
    }
    assert metadata_of_pairs(pairs) == {
        "parameters": {"depth": 4, "rate": 0.001, "shuffle": True},
        "metrics": {"accuracy": 0.97},
        "frameworks": {"numpy": "2.0"},
        "parent": "3",
        "tags": {"stage": "test", "odd.key": 7, "limit": "inf"},
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), json_values, max_size=4))
def test_anything_is_either_kept_or_refused(document: dict[str, Any]) -> None:
    with suppress(InvalidInput):
        assert metadata_of(document) == document
