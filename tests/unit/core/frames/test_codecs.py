"""Frames survive each of their forms: records, split, columns, CSV and JSON lines; other data is refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.frames import csv_lines
from penstock.core.frames.csv_text import from_csv, to_csv
from penstock.core.frames.frame import Frame, FrameColumn, FrameLimits
from penstock.core.frames.json_lines import read_json_lines, to_json_lines
from penstock.core.frames.records import (
    from_records,
    from_split,
    to_columns,
    to_records,
    to_split,
)
from tests.frames import from_columns

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "truth": st.booleans(),
    "whole": st.integers(-(2**63), 2**63 - 1),
    "large": st.integers(2**63, 2**64 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
}


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Frames of columns of every type, some of their values missing, each with a value at least."""
    rows = draw(st.integers(1, 5))
    names = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    columns = {}
    for name in names:
        kind = draw(st.sampled_from(sorted(CELLS)))
        values = draw(st.lists(CELLS[kind] | st.none(), min_size=rows, max_size=rows))
        columns[name] = [draw(CELLS[kind]) if not index else value for index, value in enumerate(values)]
    return from_columns(columns)


def check_same(first: Frame, second: Frame) -> None:
    """Check that two frames have the same columns, of the same types, with the same values."""
    assert first.names == second.names
    assert first.rows == second.rows
    assert to_columns(first) == to_columns(second)
    assert [column.values.dtype for column in first.columns.values()] == [
        column.values.dtype for column in second.columns.values()
    ]


@given(frames())
@settings(max_examples=60)
def test_frames_survive_every_form(frame: Frame) -> None:
    texts = [name for name, column in frame.columns.items() if column.values.dtype == object]
    check_same(from_records(to_records(frame)), frame)
    check_same(from_split(*to_split(frame)), frame)
    check_same(from_records(read_json_lines(to_json_lines(frame))), frame)
    check_same(from_csv(to_csv(frame), texts), frame)
    check_same(from_csv(to_csv(frame, header=False).encode(), texts, frame.names), frame)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, 2.5], "float64"),
        ([True, False], "bool"),
        ([True, 2], "int64"),
        ([2**63], "uint64"),
        (["a", None], "object"),
        ([None, None], "float64"),
        ([], "float64"),
    ],
)
def test_a_column_has_the_type_of_its_values(values: list[Any], dtype: str) -> None:
    assert from_columns({"x": values}).columns["x"].values.dtype == dtype


def test_columns_of_records_are_in_the_order_in_which_they_appear() -> None:
    frame = from_records([{"b": 1}, {"a": "x", "b": 2}])
    assert frame.names == ("b", "a")
    assert to_records(frame) == [{"b": 1, "a": None}, {"b": 2, "a": "x"}]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"a": 1}, 5], "row 1: expected an object"),
        ([{"a": 1}, {"a": "x"}], "row 1, column 'a': expected a number, got 'x'"),
        ([{"a": None}, {"a": "x"}, {"a": True}], "row 2, column 'a': expected a text, got true"),
        ([{"a": [1]}], "row 0, column 'a': expected a number, a text, true, false or null, got a list"),
        ([{"a": {}}], "got an object"),
        ([{"a": 2**64}], "column 'a' has .* more than 64 bits"),
        ([{"a": -1}, {"a": 2**63}], "column 'a' has .* more than 64 bits"),
        ([{"a": 1.5}, {"a": 10**400}], "column 'a' has .* more than 64 bits"),
        ([{"a": "\ud800"}], "column 'a' has a text that is not UTF-8"),
    ],
)
def test_faults_of_records_name_row_and_column(records: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_records(records)


@pytest.mark.parametrize(
    ("columns", "data", "message"),
    [
        (["a", "a"], [], "two columns 'a'"),
        (["a", 5], [], "column 1: expected a name"),
        (["a"], [[1, 2]], "row 0: expected a list of 1 values, got 2 values"),
        (["a"], [[1], 5], "row 1: expected a list of 1 values, got no list"),
    ],
)
def test_faults_of_split_data_name_row_or_column(columns: list[Any], data: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_split(columns, data)


def test_a_frame_without_columns_has_rows_all_the_same() -> None:
    assert to_records(from_records([{}, {}])) == [{}, {}]


def test_columns_are_selected_by_name() -> None:
    frame = from_columns({"a": [1], "b": [2]})
    assert frame.select(["b"]).names == ("b",)
    with pytest.raises(InvalidInput, match="no column 'c'; it has 'a', 'b'"):
        frame.select(["c"])


def test_many_names_are_cut_in_messages() -> None:
    with pytest.raises(InvalidInput, match="'7', and 2 more"):
        from_columns({str(number): [1] for number in range(10)}).select(["x"])


def test_float32_is_written_as_the_shortest_decimal() -> None:
    frame = Frame({"y": FrameColumn(np.array([0.1, 1e-20, 3], np.float32))}, 3)
    assert to_columns(frame) == {"y": [0.1, 1e-20, 3.0]}
    assert to_csv(frame).split() == ["y", "0.1", "1e-20", "3.0"]


SMALL = FrameLimits(rows=2, columns=2, cells=3, text_characters=12)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{}] * 3, "3 rows, over the limit of 2"),
        ([{"a": 1, "b": 2, "c": 3}], "3 columns, over the limit of 2"),
        ([{"a": 1, "b": 2}] * 2, "4 values, over the limit of 3"),
    ],
)
def test_frames_are_bounded(records: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_records(records, SMALL)


@pytest.mark.parametrize("text", ["a\n1\n2\n3\n", 'a\n"1"\n2\n3\n', "a,b,c\n1,2,3\n"[:12], "a" * 13])
def test_csv_text_is_bounded(text: str) -> None:
    with pytest.raises(InvalidInput, match="over the limit"):
        from_csv(text, limits=SMALL)


def test_json_lines_are_bounded() -> None:
    with pytest.raises(InvalidInput, match="over the limit"):
        read_json_lines("{}\n" * 3, SMALL)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b\r\n1,x\r\n", {"a": [1], "b": ["x"]}),
        ("\ufeffa,b\n1,x", {"a": [1], "b": ["x"]}),
        ('a,"b ""c"""\n1,"x,\r\ny"\n', {"a": [1], 'b "c"': ["x,\r\ny"]}),
        ('a,b\n,""\n1,y\n', {"a": [None, 1], "b": ["", "y"]}),
        ("a\n1\n\n2\n", {"a": [1, None, 2]}),
        ("a,b\n1,2\n\n", {"a": [1], "b": [2]}),
        ("a,b\n1,\n", {"a": [1], "b": [None]}),
        ('"a",b\n1,', {"a": [1], "b": [None]}),
        ("a\n007\n", {"a": ["007"]}),
        ("a\n1_000\n", {"a": ["1_000"]}),
        ("a\n1e999\n", {"a": ["1e999"]}),
        ("a\nInfinity\n", {"a": [float("inf")]}),
        ("a\nTrue\nfalse\n", {"a": [True, False]}),
        ("a\n1\nx\n", {"a": ["1", "x"]}),
        ("a\n", {"a": []}),
        ('a\n"12"\n', {"a": [12]}),
        ("a\n99999999999999999999\n", {"a": [1e20]}),
    ],
)
def test_csv_is_read_as_rfc_4180_has_it(text: str, columns: dict[str, Any]) -> None:
    assert to_columns(from_csv(text)) == columns
    assert to_columns(from_csv(text.encode())) == columns


def test_columns_that_a_model_takes_as_texts_stay_texts() -> None:
    frame = from_csv("zip,age\n00501,040\n", texts={"zip"})
    assert to_columns(frame) == {"zip": ["00501"], "age": [40]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "empty"),
        (b"\xff", "not UTF-8"),
        ("a,a\n", "two columns 'a'"),
        ("a,b\n1\n", "row 0 of the CSV data has 1 fields; expected 2"),
        ('a,b\n1,"x\n', "line 2 of the CSV data has a quote that does not end"),
        ('a,b\n1,x"y"\n', "line 2 of the CSV data"),
        ("a\n1\r2\n", "row 0|line 2"),
    ],
)
def test_malformed_csv_is_refused(data: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_csv(data)


@given(st.text(st.sampled_from('ab1",\r\n. '), max_size=20))
@settings(max_examples=60)
def test_any_text_is_a_frame_or_a_stated_fault(text: str) -> None:
    try:
        frame = from_csv(text)
    except InvalidInput:
        return
    check_same(
        from_csv(to_csv(frame), [name for name in frame.names if frame.columns[name].values.dtype == object]), frame
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"a":1}\n{"a":\n', "line 2 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        (b"\xff", "not UTF-8"),
        ("5\n", "row 0: expected an object"),
    ],
)
def test_malformed_json_lines_are_refused(data: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_records(read_json_lines(data))


def test_blank_lines_are_skipped_and_values_kept() -> None:
    assert read_json_lines(b'\xef\xbb\xbf[1, NaN]\n\n"x"\n')[1] == "x"


def test_json_lines_are_json_that_others_can_read() -> None:
    frame = from_columns({"a": [float("nan"), float("inf"), 1.0], "b": ["x", "\u00e9", None]})
    lines = [json.loads(line, parse_constant=pytest.fail) for line in to_json_lines(frame).splitlines()]
    assert lines == [{"a": None, "b": "x"}, {"a": None, "b": "\u00e9"}, {"a": 1.0, "b": None}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n1\n" + "x" * 40 + "\n2\n", ""),
        ("a\n1\n" + "x" * 41 + "\n2\n", "the line 3 of the CSV data has more than 40 characters"),
        ("a\n" + "x" * 41, "the line 2 of"),
        ('a\n"' + "x" * 38 + '"', ""),
        ('a\n"' + "x" * 39 + '"', "the field in line 2 of"),
        ('a\n"b"\n"' + '""' * 30 + '"\n"c"\n', "the field in line 3 of"),
        ('a\n"b"\n' + "x" * 60 + '\n"c"\n', "the field in line 3 of"),
        ('a\n"b', "line 2 of the CSV data has a quote that does not end"),
    ],
)
def test_what_is_taken_apart_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(csv_lines, "LONGEST", 40)
    monkeypatch.setattr(csv_lines, "CHARACTERS", 4)
    if not message:
        assert from_csv(text).rows
        return
    with pytest.raises(InvalidInput, match=message):
        from_csv(text)


@pytest.mark.parametrize("quoted", [False, True])
def test_long_data_is_read_and_written_in_slices(quoted: bool) -> None:
    rows = 20_000
    frame = from_columns(
        {
            "id": list(range(rows)),
            "y": [index / 3 if index % 7 else None for index in range(rows)],
            "text": ['say "no"' if quoted else "x"] * rows,
        }
    )
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(1)

    check_same(from_csv(to_csv(frame, pause=pause), pause=pause), frame)
    check_same(from_records(read_json_lines(to_json_lines(frame, pause), pause=pause), pause=pause), frame)
    assert len(pauses) > 50


@pytest.mark.parametrize(
    ("first", "last", "dtype"), [(0, 2**63, "uint64"), (-1, 2**63, "float64"), (0, 5, "int64"), (0, 2.5, "float64")]
)
def test_slices_of_a_column_have_one_type(first: int, last: float, dtype: str) -> None:
    frame = from_csv("x\n" + f"{first}\n" * 20_000 + f"{last}\n")
    values = frame.columns["x"].values
    assert (str(values.dtype), values[0], values[-1]) == (dtype, first, last)


def test_a_line_of_json_is_bounded() -> None:
    with pytest.raises(InvalidInput, match=r"line 2 has .* characters"):
        read_json_lines("1\n" + '"' + "x" * (2 << 20) + '"')


def test_parts_of_frames_have_some_of_the_rows() -> None:
    frame = from_columns({"a": [1, None, 3]})
    assert to_records(frame.part(1, 5)) == [{"a": None}, {"a": 3}]
    assert frame.part(5, 9).rows == 0
