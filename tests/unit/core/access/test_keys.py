"""Keys are written and read in one form; any change of a character is noticed before anything is looked up."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.access.keys import ID_CHARACTERS, SECRET_BYTES, digest_of, key_id_of, write_key

KEY = write_key("abcdefghijk1", bytes(range(SECRET_BYTES)))


@given(
    st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=ID_CHARACTERS, max_size=ID_CHARACTERS),
    st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES),
)
def test_a_key_contains_its_id(key_id: str, secret: bytes) -> None:
    assert key_id_of(write_key(key_id, secret)) == key_id


@given(st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES), st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES))
def test_different_secrets_make_different_keys(one: bytes, other: bytes) -> None:
    assert (write_key("a" * ID_CHARACTERS, one) == write_key("a" * ID_CHARACTERS, other)) is (one == other)


@given(st.integers(0, len(KEY) - 1), st.sampled_from("0aZ_ \n"))
def test_a_changed_character_makes_it_no_key(at: int, character: str) -> None:
    changed = KEY[:at] + character + KEY[at + 1 :]
    assert (key_id_of(changed) is None) is (changed != KEY)


@pytest.mark.parametrize("text", ["", "pk", KEY + "\n", " " + KEY, KEY.upper(), KEY[:-1], "Bearer " + KEY])
def test_other_texts_are_not_keys(text: str) -> None:
    assert key_id_of(text) is None


def test_what_is_stored_is_the_sha_256() -> None:
    assert digest_of(KEY) == hashlib.sha256(KEY.encode()).hexdigest()
