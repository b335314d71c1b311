"""What `penstock predict` makes of the JSON a person hands it."""

import io
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.requests import BadData, is_request, read_data, to_request

ROWS = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
WORD = {"name": "word", "datatype": "BYTES", "shape": [1]}
SCALAR = {"name": "s", "datatype": "INT64", "shape": []}


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


@pytest.mark.parametrize(
    ("data", "inputs", "expected"),
    [
        ([[1, 2, 3]], [ROWS], [tensor("x", "FP32", [1, 3], [1, 2, 3])]),
        ([1, 2, 3], [ROWS], [tensor("x", "FP32", [1, 3], [1, 2, 3])]),
        ([], [ROWS], [tensor("x", "FP32", [1, 0], [])]),
        ({"x": [[1, 2, 3], [4, 5, 6]]}, [ROWS], [tensor("x", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])]),
        (7, [SCALAR], [tensor("s", "INT64", [], [7])]),
        (
            {"word": ["a"], "x": [[1, 2, 3]]},
            [ROWS, WORD],
            [tensor("x", "FP32", [1, 3], [1, 2, 3]), tensor("word", "BYTES", [1], ["a"])],
        ),
        ({"x": [[1, 2, 3]]}, [ROWS, WORD], [tensor("x", "FP32", [1, 3], [1, 2, 3])]),
    ],
)
def test_values_become_tensors_of_the_models_inputs(data: Any, inputs: Any, expected: Any) -> None:
    assert to_request(data, inputs) == {"inputs": expected}


@pytest.mark.parametrize(
    ("data", "inputs", "expected"),
    [
        ({"y": [1]}, [ROWS], "unknown input 'y'; the model takes x FP32 [-1, 3]"),
        ([1], [ROWS, WORD], "the model takes 2 inputs; name them: x FP32 [-1, 3], word BYTES [1]"),
        ([[1, 2], [3]], [ROWS], "the lists of 'x' have different lengths"),
        ([[[1]]], [ROWS], "has shape [1, 1, 1]; expected x FP32 [-1, 3]"),
        (["a"], [{**WORD, "shape": [1, 1]}], "has shape [1]; expected word BYTES [1, 1]"),
    ],
)
def test_data_that_does_not_fit_says_what_was_expected(data: Any, inputs: Any, expected: str) -> None:
    with pytest.raises(BadData) as caught:
        to_request(data, inputs)
    assert expected in str(caught.value)


def test_a_request_of_the_protocol_is_recognised() -> None:
    assert is_request({"inputs": [tensor("x", "FP32", [1], [1.0])]})
    assert not is_request({"inputs": [[1, 2]]})
    assert not is_request([1])


def test_data_is_read_from_the_argument_a_file_or_stdin(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    file.write_text("[1, 2]")
    assert read_data("[1]", io.StringIO()) == [1]
    assert read_data(f"@{file}", io.StringIO()) == [1, 2]
    assert read_data("-", io.StringIO("[3]")) == [3]
    assert read_data(None, io.StringIO("[4]")) == [4]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("argument", "stdin", "expected"),
    [
        (None, Terminal(), "no data"),
        ("@/nowhere/at/all", io.StringIO(), "cannot be read: No such file"),
        ("[1,", io.StringIO(), "is not JSON"),
    ],
)
def test_unreadable_data_is_one_clear_line(argument: str | None, stdin: io.StringIO, expected: str) -> None:
    with pytest.raises(BadData, match=expected):
        read_data(argument, stdin)
