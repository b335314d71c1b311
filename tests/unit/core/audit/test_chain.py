"""The canonical form of an entry, and the hash chain."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.audit.chain import FIELDS, canonical_form, first_link, next_link, normalise, origin_of

ENTRY: dict[str, Any] = {"seq": 1, "at": "2026", "actor": "ann", "action": "alias.move", "model": "m", "subject": "s"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_a_canonical_form_is_sorted_json_without_empty_fields() -> None:
    entry = {**ENTRY, "reason": "", "before": None, "after": {"b": 1, "a": "ö"}, "hash": "ff", "unknown": 1}
    expected = (
        '{"action":"alias.move","actor":"ann","after":{"a":"\\u00f6","b":1},"at":"2026","model":"m","seq":1,'
        '"subject":"s"}'
    )
    assert canonical_form(entry) == expected.encode()


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_covered(field: str) -> None:
    assert canonical_form({**ENTRY, field: "other"}) != canonical_form({**ENTRY, field: "another"})


@given(st.dictionaries(st.text(), JSON))
def test_a_document_has_the_same_form_after_it_was_stored(document: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(normalise(document)))
    assert canonical_form({**ENTRY, "after": normalise(document)}) == canonical_form({**ENTRY, "after": stored})


def test_keys_and_tuples_are_normalised_as_json_has_them() -> None:
    assert normalise({2: (1, 2), 10: None}) == {"2": [1, 2], "10": None}


def test_a_link_binds_an_entry_to_all_before_it_and_the_first_to_the_registry() -> None:
    assert origin_of("id") == "penstock/id"
    assert first_link("id") == hashlib.sha256(b"penstock/id").digest()
    assert next_link(b"a" * 32, b"row") == hashlib.sha256(b"a" * 32 + b"row").digest()
