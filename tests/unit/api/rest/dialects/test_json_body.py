"""Bodies of rows are read as the standard library reads them, in slices of any length, and nothing else is accepted."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.rest.dialects import json_body
from penstock.api.rest.dialects.json_body import INLINE_ROWS, read_object
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.slices import no_pause

ON_THREAD = RequestWork(RequestLimits(), no_pause)
TEXTS = st.text(st.sampled_from('ab\\"[]{},:\té '), max_size=12)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), TEXTS)
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=60,
)


@pytest.fixture(autouse=True, scope="module")
def _small_slices() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "JSON_SLICE", 24)
        patch.setattr(json_body, "WINDOW", 48)
        yield


@settings(max_examples=150)
@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.sampled_from((None, 1)), st.booleans())
def test_any_object_is_read_as_it_was_written(document: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    assert read_object(body, ON_THREAD) == document


@settings(max_examples=100)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3), st.data())
def test_a_broken_body_is_refused(document: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(document)
    place = data.draw(st.integers(0, len(text) - 1))
    broken = text[:place] + data.draw(st.sampled_from(["", "]", "}", ",", '"', "\\", "[", "NaN"])) + text[place + 1 :]
    try:
        expected: Any = json.loads(broken, parse_constant=_refuse, parse_float=_finite)
    except ValueError:
        expected = None
    try:
        found: Any = read_object(broken.encode(), ON_THREAD)
    except InvalidInput:
        found = None
    assert found == (expected if isinstance(expected, dict) else None)


def _refuse(_: str) -> None:
    raise ValueError


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError
    return number


@pytest.mark.parametrize(
    "rows",
    [
        [[[float(index), 2.0], [3.0, 4.0]] for index in range(40)],
        [{"a": "x},{y", "b": [index]} for index in range(40)],
        [["],[", index] for index in range(40)],
        ['"\\' * 40, "," * 90, 'a","b'],
        list(range(200)),
        [[index] * 70 for index in range(5)],
        [{str(index): index for index in range(50)}],
        [[], [[]], [[[]]]] * 10,
        [1, [2], {"c": 3}, "d", None, True] * 10,
    ],
)
def test_rows_of_every_form(rows: list[Any]) -> None:
    assert read_object(json.dumps({"instances": rows, "x": 1}).encode(), ON_THREAD) == {"instances": rows, "x": 1}


def test_work_pauses_between_slices() -> None:
    pauses: list[None] = []
    body = json.dumps({"instances": list(range(1000))}).encode()
    read_object(body, RequestWork(RequestLimits(), lambda: pauses.append(None)))
    assert len(pauses) > len(body) / 100


@pytest.mark.parametrize("body", [b'{"instances": [[NaN, 1e400]]}', b'{"instances": [[1.0, -1e400]]}' + b" " * 300])
def test_no_number_becomes_infinity(body: bytes) -> None:
    [[_, found]] = read_object(body, ON_THREAD, tokens=True)["instances"]
    assert str(found).endswith("1e400") and not isinstance(found, float)
    with pytest.raises(InvalidInput, match="not valid JSON"):
        read_object(body, ON_THREAD)


def test_tokens_are_numbers_only_where_a_dialect_has_them() -> None:
    body = b'{"instances": [[NaN, 1.0], [-Infinity, Infinity]], "more": "' + b"x" * 100 + b'"}'
    found = read_object(body, ON_THREAD, tokens=True)["instances"]
    assert repr(found) == "[[nan, 1.0], [-inf, inf]]"
    with pytest.raises(InvalidInput, match="not valid JSON"):
        read_object(body, ON_THREAD)
    with pytest.raises(InvalidInput, match="not valid JSON"):
        read_object(b'{"a": NaN, "b": "\\ud800"}', ON_THREAD, tokens=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1]", "not a JSON object"),
        (b"", "not valid JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"[" * 200 + b"1" * 60 + b"]" * 200 + b"}", "nested too deeply"),
        (b'{"a": ' + b'{"b":' * 100 + b"1" * 60 + b"}" * 100 + b"}", "nested too deeply"),
        (b'{"a": "' + b"x" * 100, "does not end"),
        (b'{"instances": [1,2,3' + b" " * 100 + b",]}", "not valid JSON"),
        (b'{"instances": [' + b"1," * 50 + b"1]} true", "not valid JSON"),
    ],
)
def test_refusals_say_what_is_wrong(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_object(body, ON_THREAD)


def test_objects_of_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "MAX_MEMBERS", 10)
    with pytest.raises(TooLarge, match="more than 10 members"):
        read_object(json.dumps({str(index): index for index in range(50)}).encode(), ON_THREAD)


def test_many_lists_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "MAX_LISTS", 50)
    body = json.dumps({"instances": [[1]] * 48})
    assert len(read_object(body.encode(), ON_THREAD)["instances"]) == 48
    with pytest.raises(TooLarge, match="more than 50 lists and objects; use fewer rows"):
        read_object(body.replace("[1]", "[{}]").encode(), ON_THREAD)


def test_the_event_loop_declines_long_bodies() -> None:
    body = b'{"a": "' + b"x" * INLINE_ROWS + b'"}'
    with pytest.raises(LargeWork):
        read_object(body, RequestWork(RequestLimits(), None))
    assert read_object(b'\xef\xbb\xbf{"a": 1}', RequestWork(RequestLimits(), None)) == {"a": 1}


def test_long_lists_with_tokens_are_read_in_slices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    parse = json_body.parse_json

    def count(text: str, tokens: bool = False) -> Any:
        parsed.append(len(text))
        return parse(text, tokens)

    monkeypatch.setattr(json_body, "parse_json", count)
    monkeypatch.setattr(json_body, "JSON_SLICE", 2400)
    monkeypatch.setattr(json_body, "WINDOW", 4800)
    rows = [[1.5, float("inf")], [-2.0, float("-inf")]] * 500
    body = json.dumps({"instances": rows}).encode()
    assert read_object(body, ON_THREAD, tokens=True) == {"instances": rows}
    assert len(parsed) < len(rows) / 5
