"""Content types and what clients accept, as RFC 9110 has them."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.rest.dialects.media_types import MAX_LENGTH, MediaType, choose_type, read_media_type
from penstock.core.errors import InvalidInput

OFFERED = ("application/json", "text/csv", "application/x-npy")


@pytest.mark.parametrize(
    ("value", "name", "parameters"),
    [
        (b"text/csv", "text/csv", {}),
        (b" Text/CSV ;", "text/csv", {}),
        (b"text/csv; charset=UTF-8; Header=present", "text/csv", {"charset": "UTF-8", "header": "present"}),
        (b'text/csv;charset="utf-8"', "text/csv", {"charset": "utf-8"}),
        (b'text/csv;a="b;\\"c"', "text/csv", {"a": 'b;"c'}),
        (b"application/vnd.x+json;json-header-size=17", "application/vnd.x+json", {"json-header-size": "17"}),
    ],
)
def test_a_type_and_its_parameters(value: bytes, name: str, parameters: dict[str, str]) -> None:
    assert read_media_type(value) == MediaType(name, parameters)


@pytest.mark.parametrize("value", [b"", b"csv", b"text/", b"text/csv; charset", b"text/csv x", b"a/b;" + b"c=d;" * 999])
def test_a_malformed_media_type_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput, match="content-type"):
        read_media_type(value)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (b"", "application/json"),
        (b"*/*", "application/json"),
        (b"text/csv", "text/csv"),
        (b"TEXT/CSV;q=0.1", "text/csv"),
        (b"text/*", "text/csv"),
        (b"text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        (b"application/*;q=0.2, text/csv;q=0.1", "application/json"),
        (b"*/*;q=0.1, application/x-npy", "application/x-npy"),
        (b"application/json;q=0, */*", "text/csv"),
        (b"text/html", ""),
        (b"text/csv;q=0", ""),
        (b"text/html, " * 200 + b"text/csv", "application/json"),
    ],
)
def test_the_client_chooses_among_what_is_offered(accept: bytes, chosen: str) -> None:
    assert choose_type(accept, OFFERED) == chosen


@settings(max_examples=25)
@given(st.binary(max_size=80) | st.text(alphabet="text/csv*;q=0.1, ", max_size=60).map(str.encode))
def test_every_field_has_an_answer(value: bytes) -> None:
    assert choose_type(value, OFFERED) in (*OFFERED, "")
    assert choose_type(value + b" " * MAX_LENGTH, OFFERED) == OFFERED[0]
    with suppress(InvalidInput):
        assert "/" in read_media_type(value).name
