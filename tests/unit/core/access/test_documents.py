"""An access table survives the way to the workers and to the disk."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.access.documents import decode_table, encode_table
from penstock.core.access.table import AccessTable, Binding, Issuer, KeyRecord, Quota

texts = st.text(max_size=6)
several = st.lists(texts, max_size=3).map(tuple)
numbers = st.floats(0, 1e9)
quotas = st.builds(Quota, numbers, numbers, numbers, st.integers(0, 99), st.integers(0, 99))
records = st.builds(KeyRecord, texts, texts, texts, several, several, st.none() | numbers, quotas)
issuers = st.builds(Issuer, texts, texts, texts, texts, texts, texts, texts)
bindings = st.builds(Binding, texts, texts, texts, several, quotas)
tables = st.builds(
    AccessTable,
    st.integers(0),
    st.booleans(),
    st.booleans(),
    *(st.lists(item, max_size=2).map(tuple) for item in (records, issuers, bindings)),
    quotas,
)


@given(tables)
@settings(max_examples=30)
def test_a_table_survives_as_json(table: AccessTable) -> None:
    assert decode_table(json.loads(json.dumps(encode_table(table)))) == table


def test_what_is_of_another_release_is_an_error() -> None:
    values = encode_table(AccessTable(1, True))
    with pytest.raises(KeyError):
        decode_table({name: value for name, value in values.items() if name != "keys"})
    with pytest.raises(TypeError):
        decode_table({**values, "issuers": [{"url": ""}]})
