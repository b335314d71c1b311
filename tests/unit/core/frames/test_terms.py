"""What a version says about its rows, as text and back."""

import json
from typing import Any

import pytest

from penstock.core.frames.terms import (
    NO_TERMS,
    RowTerms,
    card_defaults,
    decode_terms,
    encode_terms,
    is_default,
    names_in_order,
)


@pytest.mark.parametrize(
    "terms",
    [
        RowTerms(("a", "b")),
        RowTerms(defaults={"a": 1.5, "b": None, "c": "x", "d": True}),
        RowTerms(("a",), {"a": 0}, "ignore"),
        NO_TERMS,
    ],
)
def test_terms_come_back_from_their_text(terms: RowTerms) -> None:
    assert decode_terms(encode_terms(terms)) == terms


def test_the_text_is_short_json_with_fixed_names() -> None:
    text = encode_terms(RowTerms(("a",), {"a": 0}))
    assert text == '{"names":["a"],"defaults":{"a":0},"extra_columns":"refuse"}'
    assert encode_terms(NO_TERMS) == ""
    assert decode_terms(json.dumps({"defaults": {"a": 1}})) == RowTerms((), {"a": 1})


@pytest.mark.parametrize("text", ["", "{", "5", "[]", '{"unknown": 1}', '{"names": 5}'])
def test_a_text_without_terms_says_nothing(text: str) -> None:
    assert decode_terms(text) == NO_TERMS


@pytest.mark.parametrize(
    ("stated", "reference", "names"),
    [
        (("a", "b"), (), ("a", "b")),
        ((), ("a", "b"), ("a", "b")),
        (("b", "a"), ("a", "b"), ("a", "b")),
        (("b", "c"), ("a", "b"), ("b", "c")),
    ],
)
def test_the_order_of_the_reference_counts_for_the_same_names(
    stated: tuple[str, ...], reference: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert names_in_order(stated, reference) == names


@pytest.mark.parametrize(
    ("card", "defaults"),
    [
        (None, {}),
        ([], {}),
        ({}, {}),
        ({"features": ["a"]}, {}),
        ({"features": {"a": {"default": 1}, "b": {}, "c": 5, 6: {"default": 1}, "d": {"default": []}}}, {"a": 1}),
        ({"features": {"a": {"default": None}, "b": {"default": False}}}, {"a": None, "b": False}),
    ],
)
def test_defaults_of_a_card_are_single_values(card: Any, defaults: dict[str, Any]) -> None:
    assert card_defaults(card) == defaults


@pytest.mark.parametrize(("value", "found"), [(None, True), (1, True), ("", True), ([], False), ({}, False)])
def test_a_default_is_a_single_value(value: Any, found: bool) -> None:
    assert is_default(value) is found
