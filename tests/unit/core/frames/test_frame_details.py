"""Details of frames and layouts: names, counts of columns, bounds to the last character, and the words of errors."""

from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.frames.binding import row_layout
from penstock.core.frames.cells import as_datatype
from penstock.core.frames.csv_text import from_csv
from penstock.core.frames.frame import MOST_SHOWN, FrameLimits, list_names
from penstock.core.frames.json_lines import LONGEST_LINE, read_json_lines, to_json_lines
from penstock.core.frames.layout import LayoutKind, RowLayout, column_names, kind_of, row_width
from penstock.core.frames.outputs import outputs_to_frame
from penstock.core.frames.terms import RowTerms
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor
from tests.frames import from_columns


def layout_of(*specs: TensorSpec, **terms: Any) -> RowLayout:
    """The layout of a model with these inputs."""
    return row_layout(Signature(specs, [], batching=True), RowTerms(**terms))


def test_columns_of_texts_are_known_in_each_layout() -> None:
    columns = layout_of(TensorSpec("age", "FP32", (-1, 1)), TensorSpec("city", "BYTES", (-1, 1)))
    tensors = layout_of(TensorSpec("image", "FP32", (-1, 2, 2)), TensorSpec("tag", "BYTES", (-1,)))
    assert (set(columns.text_columns), set(tensors.text_columns)) == ({"city"}, {"tag"})


@pytest.mark.parametrize(
    ("datatype", "shape", "names", "kind"),
    [
        ("FP32", (-1, 1), (), LayoutKind.FEATURES),
        ("FP32", (-1, -1), ("a",), LayoutKind.FEATURES),
        ("FP32", (-1, -1), (), LayoutKind.TENSORS),
        ("BF16", (-1,), (), LayoutKind.TENSORS),
        ("FP32", (-1,), (), LayoutKind.COLUMNS),
    ],
)
def test_the_only_input_decides_the_kind(
    datatype: str, shape: tuple[int, ...], names: tuple[str, ...], kind: LayoutKind
) -> None:
    signature = Signature([TensorSpec("x", datatype, shape)], [], batching=True)
    assert kind_of(signature, RowTerms(names=names)) is kind


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a", "b"), ("a", "b")),
        (("a", "a"), ("x[0]", "x[1]")),
        (("a", "b", "c"), ("x[0]", "x[1]")),
        (("a", "b", "b"), ("x[0]", "x[1]")),
        ((), ("x[0]", "x[1]")),
    ],
)
def test_features_have_their_names_only_where_each_has_its_own(
    names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert column_names(TensorSpec("x", "FP32", (-1, 2)), 2, RowTerms(names=names)) == expected


@pytest.mark.parametrize(
    ("shape", "width"), [((-1,), 1), ((-1, 3), 3), ((-1, 2, 3), 6), ((-1, -1), -1), ((-1, 2, -1), -1)]
)
def test_the_width_of_a_row_is_fixed_or_unknown(shape: tuple[int, ...], width: int) -> None:
    assert row_width(TensorSpec("x", "FP32", shape)) == width


@pytest.mark.parametrize(
    ("labels", "names"),
    [(("no", "yes"), ["p_no", "p_yes"]), (("no", "no"), ["p_0", "p_1"]), (("no", "yes", "may"), ["p_0", "p_1"])],
)
def test_columns_of_an_output_have_its_labels_only_where_each_has_its_own(
    labels: tuple[str, ...], names: list[str]
) -> None:
    signature = Signature([], [TensorSpec("p", "FP32", (-1, 2), labels=labels)], batching=True)
    frame = outputs_to_frame([Tensor("p", "FP32", np.ones((3, 2), np.float32))], signature)
    assert (list(frame.names), frame.rows) == (names, 3)


def test_a_list_of_names_is_cut_after_as_many_as_are_shown() -> None:
    names = [str(number) for number in range(MOST_SHOWN)]
    assert "more" not in list_names(names)
    assert list_names([*names, "last"]).endswith(", and 1 more")
    assert list_names([]) == "none"


def test_texts_and_lines_are_bounded_to_the_last_character() -> None:
    limits = FrameLimits(text_characters=3)
    limits.check_text("abc")
    with pytest.raises(InvalidInput):
        limits.check_text("abcd")
    line = '"' + "x" * (LONGEST_LINE - 2) + '"'
    assert len(read_json_lines(line)) == 1
    with pytest.raises(InvalidInput, match=f"line 1 has {LONGEST_LINE + 1} characters"):
        read_json_lines(line[:-1] + 'x"')


def test_json_lines_keep_characters_beyond_ascii() -> None:
    assert to_json_lines(from_columns({"ö": ["é"]})) == '{"ö": "é"}\n'


def test_a_line_of_csv_with_another_width_is_named_by_its_row() -> None:
    with pytest.raises(InvalidInput, match="row 1 of the CSV data has 3 fields; expected 2"):
        from_csv("a,b\n1,2\n1,2,3\n")
    with pytest.raises(InvalidInput, match="the CSV data is not UTF-8"):
        from_csv(b"a,b\n\xff,2\n")


def test_rows_that_name_no_input_are_refused_with_what_is_expected() -> None:
    layout = layout_of(TensorSpec("image", "FP32", (-1, 2, 2)), TensorSpec("tag", "BYTES", (-1,)))
    with pytest.raises(InvalidInput, match="the request has no rows; expected at least one"):
        layout.bind_instances([])
    with pytest.raises(InvalidInput, match="expected each row to be an object with values for each of"):
        layout.bind_instances([[1]])
    with pytest.raises(InvalidInput, match="expected the request to be an object with values for each of"):
        layout.bind_values([[1]])
    with pytest.raises(InvalidInput, match="expected the array to be an object with values for each of"):
        layout.bind_array(np.ones(2))


def test_cells_become_booleans() -> None:
    found = as_datatype(np.array([0.0, 1.0]), "BOOL")
    assert (found.dtype, found.tolist()) == (np.dtype(np.bool_), [False, True])
