"""White space between the tokens of JSON means nothing, however much of it there is and wherever it stands."""

import json
import random
import re
from typing import Any

import numpy as np
import pytest

from penstock.api.rest.decode import BodyDecoder
from penstock.api.rest.json_space import LONG_SPACE, without_long_space
from penstock.core.errors import TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import no_pause
from penstock.serving.shared_memory import SharedRegions
from tests.budgets import THOROUGH

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')
SHAPES = [(1, 3), (3, 1), (40, 60), (2, 3000), (3000, 2)]
SIZES = [5_000, 17_000, 70_000, 300_000, 1_200_000] if THOROUGH else [5_000, 300_000]


def rows(datatype: str, shape: tuple[int, int]) -> list[list[Any]]:
    made: Any = (lambda n: f'w [ {n}]  , \\" ') if datatype == "BYTES" else int
    return [[made(row * shape[1] + column) for column in range(shape[1])] for row in range(shape[0])]


def request(datatype: str, shape: tuple[int, int], nested: bool) -> list[bytes]:
    """The tokens of a request."""
    found = rows(datatype, shape)
    data: Any = found if nested else [item for row in found for item in row]
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    return TOKEN.findall(json.dumps({"id": "a", "inputs": [tensor]}).encode())


def space(size: int, rng: random.Random) -> bytes:
    return bytes(rng.choice(b" \t\r\n") for _ in range(64)) * (size // 64 + 1)


def decoded(body: bytes, datatype: str) -> Any:
    signature = Signature([TensorSpec("x", datatype, (-1, -1))], [])
    return tensor_of(body, signature).tolist()


def tensor_of(body: bytes, signature: Signature) -> Any:
    given: Any = BodyDecoder(RequestLimits(), SharedRegions()).decode(body, None, signature, no_pause).given
    return given[0].data


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BYTES"])
def test_white_space_anywhere_means_nothing(datatype: str, nested: bool) -> None:
    rng = random.Random(datatype)
    for shape in SHAPES if THOROUGH else SHAPES[::2]:
        tokens, expected = request(datatype, shape, nested), rows(datatype, shape)
        for size in SIZES:
            for place in (
                0,
                len(tokens),
                len(tokens) - 3,
                *(rng.randrange(len(tokens)) for _ in range(4 if THOROUGH else 1)),
            ):
                body = b"".join(tokens[:place]) + space(size, rng) + b"".join(tokens[place:])
                assert decoded(body, datatype) == expected, (shape, size, tokens[place - 1 : place + 1])


@pytest.mark.parametrize("each", [1, 5, LONG_SPACE - 1, LONG_SPACE, 400])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_white_space_everywhere_means_nothing(datatype: str, nested: bool, each: int) -> None:
    shape = (40, 60)
    body = space(each, random.Random(each))[:each].join(request(datatype, shape, nested))
    assert decoded(body, datatype) == rows(datatype, shape)


@pytest.mark.parametrize("depth", [2, 8, 32])
def test_white_space_between_many_brackets(depth: int) -> None:
    dims = [1] * (depth - 1) + [20_000]
    data = (b"[" + b" " * 127) * depth + b",".join([b"1"] * 20_000) + (b" " * 127 + b"]") * depth
    head = json.dumps({"name": "x", "datatype": "FP32", "shape": dims}).encode()[:-1]
    signature = Signature([TensorSpec("x", "FP32", (-1,) * depth)], [])
    body = b'{"inputs": [' + head + b', "data": ' + data + b"}]}"
    found = tensor_of(body, signature)
    assert (found.shape, float(found.sum())) == (tuple(dims), 20_000)


@pytest.mark.parametrize("digits", [20_000, 40_000, 90_000])
def test_numbers_of_many_digits_are_numbers(digits: int) -> None:
    long = b"1." + b"5" * digits
    data = b",".join([b"2.5", long, b"0.5", *[b"0"] * 9997])
    body = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 10000], "data": [%b]}]}' % data
    assert decoded(body, "FP64")[0][:3] == [2.5, float(np.float64(long.decode())), 0.5]


def test_strings_keep_their_white_space() -> None:
    for inside in (b" " * 5000, b"\\\\" + b" " * 5000, b'\\"' + b" " * 5000 + b'\\"'):
        text = b'{"a":' + b" " * 5000 + b'"' + inside + b'"' + b" " * 70_000 + b"}"
        shorter = without_long_space(text, no_pause)
        assert json.loads(shorter) == json.loads(text)
        assert len(shorter) < len(inside) + 2 * LONG_SPACE + 20


def test_a_text_without_much_white_space_stays_itself() -> None:
    text = json.dumps([[1.5] * 10] * 10_000).encode()
    assert without_long_space(text, no_pause) is text
    assert without_long_space(b'{"a": "' + b" " * 100_000, no_pause).startswith(b'{"a": "')  # no string, and no end


def test_white_space_counts_as_bytes_of_json() -> None:
    with pytest.raises(TooLarge, match=r"limits\.max_json_bytes"):
        decoded(b" " * (9 << 20) + b"".join(request("FP32", (1, 3), False)), "FP32")
