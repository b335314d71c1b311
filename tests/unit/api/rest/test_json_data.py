"""Long JSON is read in slices: what it means, and what is refused, is the same as if it were read at once."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.common.work import INLINE_JSON
from penstock.api.rest import json_data, json_scan
from penstock.api.rest.decode import BodyDecoder
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import BYTE_SLICE, no_pause
from penstock.core.tensors import MAX_RANK, Array
from penstock.serving.shared_memory import SharedRegions
from tests.budgets import examples

OUTPUTS = [TensorSpec("y", "FP32", (-1,))]
DATATYPES = ["FP32", "FP64", "INT8", "INT64", "UINT16", "BOOL", "BYTES"]


@pytest.fixture(autouse=True)
def _short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices so short that a few elements make many of them."""
    monkeypatch.setattr(json_data, "JSON_SLICE", 64)
    monkeypatch.setattr(json_data, "TEXT_SLICE", 3)


def whole(monkeypatch: pytest.MonkeyPatch, bytes_at_once: int) -> None:
    monkeypatch.setattr(json_data, "WHOLE", bytes_at_once)


def outcome(datatype: str, shape: tuple[int, ...], text: bytes, at_once: int) -> Array | None:
    count = int(np.prod(shape, dtype=np.int64))
    with pytest.MonkeyPatch.context() as patch:
        whole(patch, at_once)
        try:
            return json_data.array_of("x", datatype, shape, count, text, no_pause)
        except InvalidInput:
            return None


def same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "FP32": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
    "FP64": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "INT8": st.integers(-128, 127),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UINT16": st.integers(0, 65535),
    "BOOL": st.booleans(),
    "BYTES": st.text(max_size=4) | st.sampled_from(['"', "\\", '\\"', '","', "]", "[", "\\\\"]),
}


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, tuple[int, ...], bytes]:
    """Data of some shape, flat or nested, with spaces; sometimes changed so that it is wrong."""
    datatype = draw(st.sampled_from(DATATYPES))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    size = int(np.prod(shape))
    leaves = draw(st.lists(LEAVES[datatype], min_size=size, max_size=size))
    nested: Any = leaves
    if draw(st.booleans()):
        for dim in reversed(shape[1:]):
            nested = [nested[at : at + dim] for at in range(0, len(nested), dim)]
    indent = draw(st.sampled_from([None, 1]))
    text = json.dumps(nested, indent=indent, ensure_ascii=draw(st.booleans())).encode()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(1, max(1, len(text) - 1)))
        cut = draw(st.integers(0, 2))
        text = (
            text[:at]
            + draw(st.sampled_from([b"", b",", b"[", b"]", b'"', b" ", b"1", b"[]", b"],["]))
            + text[at + cut :]
        )
    return datatype, shape, text


@settings(max_examples=examples(400))
@given(documents())
def test_slices_give_what_the_whole_gives(document: tuple[str, tuple[int, ...], bytes]) -> None:
    datatype, shape, text = document
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        assert outcome(datatype, shape, text, 0) is None
        return
    at_once, sliced = outcome(datatype, shape, text, 1 << 20), outcome(datatype, shape, text, 0)
    assert same(at_once, sliced), (at_once, sliced)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (b"[[1,2],[3,4]]", (4,)),
        (b"[[1,2],[3]]", (2, 2)),
        (b"[[1],[2,3,4]]", (2, 2)),
        (b"[1,[2],[3,4]]", (2, 2)),
        (b"[[],1,[2,3,4]]", (2, 2)),
        (b"[[1,2],[3,4]", (2, 2)),
        (b"[[1,2],[3,4]]]", (2, 2)),
        (b"[[1,2][3,4]]", (2, 2)),
        (b"[[1 2],[3,4]]", (2, 2)),
        (b"[[1,2],,[3,4]]", (2, 2)),
        (b"[[1,2],[3,4],]", (2, 2)),
        (b"[[1,2],[3,4]],[", (2, 2)),
        (b"[[[1,2]],[3,4]]", (2, 2)),
        (b"[[[1,2],[3,4]]]", (2, 2)),
        (b"[1,2,3,4,5]", (4,)),
        (b"[1,2,3]", (4,)),
        (b"[[1,2],3,4]", (2, 2)),
        (b'[1,2,3,"4"]', (4,)),
        (b"[1,2,3,true]", (4,)),
        (b"[1,2,3,{}]", (4,)),
    ],
)
def test_irregular_lists_are_refused_in_slices_too(text: bytes, shape: tuple[int, ...]) -> None:
    assert outcome("FP32", shape, text, 0) is None


# Requests, whose long lists are taken out before they are parsed.


def decoded(body: bytes, signature: Signature) -> list[tuple[str, Array]] | str:
    try:
        found = BodyDecoder(RequestLimits(), SharedRegions()).decode(body, None, signature, no_pause)
    except (InvalidInput, TooLarge) as fault:
        return type(fault).__name__
    given = found.given if isinstance(found.given, list) else [signature.row.tensor(found.given)]  # type: ignore[union-attr]
    return [(tensor.name, tensor.data) for tensor in given]


@st.composite
def requests(draw: st.DrawFn) -> tuple[Signature, bytes]:
    datatypes = draw(st.lists(st.sampled_from(DATATYPES), min_size=1, max_size=3))
    specs, inputs = [], []
    for place, datatype in enumerate(datatypes):
        shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))
        size = int(np.prod(shape))
        data: Any = draw(st.lists(LEAVES[datatype], min_size=size, max_size=size))
        if len(shape) == 2 and draw(st.booleans()):
            data = [data[at : at + shape[1]] for at in range(0, size, shape[1])]
        name = f"x{place}"
        specs.append(TensorSpec(name, datatype, (-1,) * len(shape)))
        fields = [("name", name), ("shape", shape), ("datatype", datatype), ("data", data)]
        inputs.append(dict(draw(st.permutations(fields))))
    more = {"id": draw(st.text(max_size=5)), "parameters": {"a": [1, 2], 'b"': "[1,2"}, "outputs": [{"name": "y"}]}
    body = json.dumps(
        {**(more if draw(st.booleans()) else {}), "inputs": inputs}, indent=draw(st.sampled_from([None, 2]))
    )
    text = body.encode()
    if draw(st.booleans()):
        at = draw(st.integers(1, max(1, len(text) - 1)))
        text = text[:at] + draw(st.sampled_from([b"", b",", b"[", b"]", b'"', b"\\", b"{", b"}"])) + text[at + 1 :]
    return Signature(specs, OUTPUTS), text


@settings(max_examples=examples(400))
@given(requests())
def test_a_request_means_the_same_with_its_lists_taken_out(request: tuple[Signature, bytes]) -> None:
    signature, body = request
    at_once = decoded(body, signature)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_scan, "MIN_LIST", 40)
        patch.setattr(json_scan, "BYTE_SLICE", 300)
        whole(patch, 0)
        apart = decoded(b'{"padding":"%b",' % (b"x" * INLINE_JSON) + body[1:], signature)
    if isinstance(at_once, str) or isinstance(apart, str):
        assert at_once == apart
    else:
        assert [name for name, _ in at_once] == [name for name, _ in apart]
        assert all(same(item, other) for (_, item), (_, other) in zip(at_once, apart, strict=True))


def big(data: bytes, **more: bytes) -> bytes:
    rest = b"".join(b',"%b":%b' % (name.encode(), value) for name, value in more.items())
    return b'{"inputs":[{"name":"x","shape":[20000],"datatype":"FP32","data":%b}]%b}' % (data, rest)


NUMBERS = b"[" + b",".join([b"1.25"] * 20_000) + b"]"
FLOATS = Signature([TensorSpec("x", "FP32", (-1,))], OUTPUTS)


def test_a_long_list_elsewhere_is_refused_and_not_read() -> None:
    assert not isinstance(decoded(big(NUMBERS), FLOATS), str)
    for more in ({"extra": NUMBERS}, {"parameters": b'{"a":%b}' % NUMBERS}):
        assert decoded(big(NUMBERS, **more), FLOATS) == "InvalidInput"


def rows_of_brackets(depth: int, between: bytes, size: int) -> bytes:
    """A list of that depth in which brackets stand in rows, each of one too few to end it."""
    row = b"1" + (between + b"]") * (depth - 1)
    return b"[" * depth + row * (size // len(row)) + b"]"


@pytest.mark.parametrize("between", [b"", b" "])
@pytest.mark.parametrize("depth", [2, 8, MAX_RANK])
def test_rows_of_brackets_are_searched_in_short_slices(depth: int, between: bytes) -> None:
    """A search may look at a byte once for each bracket of a row."""
    pauses = []
    text = rows_of_brackets(depth, between, 4 * BYTE_SLICE)
    found = json_scan.make_skeleton(text, lambda: pauses.append(1), 10)
    assert len(found.lists) == 1
    assert len(pauses) >= depth * (len(text) // BYTE_SLICE)


@pytest.mark.parametrize("depth", [MAX_RANK + 1, 1000, 8000])
def test_lists_deeper_than_any_tensor_are_not_searched(depth: int) -> None:
    text = rows_of_brackets(depth, b"", 4 * BYTE_SLICE)
    found = json_scan.make_skeleton(text, no_pause, 10)
    assert (found.text, found.lists) == (text, [])
    assert decoded(big(text), FLOATS) == "InvalidInput"


@pytest.mark.parametrize("space", [1, 100, 3000])
def test_an_end_may_be_longer_than_a_slice(space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_scan, "BYTE_SLICE", 640)
    end = (b"]" + b" " * space) * 31 + b"]"
    text = b"[" * 32 + b",".join([b"1"] * 3000) + end
    found = json_scan.make_skeleton(b'{"data":%b,"rest":[1]}' % text, no_pause, 10)
    assert found.lists == [(8, 8 + len(text))]


ESCAPED = st.lists(st.sampled_from([b"a", b"\\\\", b'\\"', b"\\n", b"\\u00e9"]), max_size=30).map(b"".join)


@given(ESCAPED, st.sampled_from([b"", b'"', b'" more "']), st.integers(2, 9))
def test_strings_end_where_the_parser_says(inside: bytes, rest: bytes, slice_: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_scan, "BYTE_SLICE", slice_)
        body = b'x"' + inside + b'"' + rest
        assert json_scan.string_end(body, 1, no_pause) == len(inside) + 3
        assert json_scan.string_end(body[: len(inside) + 2], 1, no_pause) == -1


@pytest.mark.parametrize("escape", [b"\\\\", b'\\"'])
def test_long_strings_of_escapes_are_searched_in_slices(escape: bytes) -> None:
    pauses = []
    body = b'"%b"' % (escape * BYTE_SLICE)
    assert json_scan.string_end(body, 0, lambda: pauses.append(1)) == len(body)
    assert len(pauses) >= 2


def test_what_stands_beside_the_lists_is_limited() -> None:
    parameters = b"{" + b",".join(b'"%d":1' % number for number in range(200_000)) + b"}"
    assert decoded(big(NUMBERS, parameters=parameters), FLOATS) == "TooLarge"
    assert decoded(big(NUMBERS, id=b'"%b"' % (b"a" * 1_100_000)), FLOATS) == "TooLarge"
    inputs = b'{"inputs":[%b]}' % b",".join([b'{"name":"x","shape":[1],"datatype":"FP32","data":[1]}'] * 30_000)
    assert decoded(inputs, FLOATS) == "TooLarge"


def test_a_text_that_looks_like_a_mark_is_a_text() -> None:
    signature = Signature([TensorSpec("x", "BYTES", (-1,))], OUTPUTS)
    data = json.dumps(["a" * 10] * 10_000).encode()
    for text in ('"', "0", "mark0", "\\"):
        scalar = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": text}]})
        assert not isinstance(decoded(scalar.encode(), signature), str)
    body = b'{"inputs":[{"name":"x","shape":[10000],"datatype":"BYTES","data":%b}]}' % data
    assert not isinstance(decoded(body, signature), str)
