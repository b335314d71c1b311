"""Requests of one row that come again: what is remembered of one changes nothing of what the next one means."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.api.rest.decode import MAX_HEADER, MAX_HEADERS, BodyDecoder
from penstock.api.rest.infer_body import KnownRowText
from penstock.core.errors import Fault, InvalidInput
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.serving.shared_memory import SharedRegions

ONE = Signature((TensorSpec("x", "FP32", (-1, 3)),), (), batching=True)
DATA_INPUT = Signature((TensorSpec("data", "FP64", (-1, 3)),), (), batching=True)
OTHER = Signature((TensorSpec("x", "FP32", (-1, 2)),), (), batching=True)
SIGNATURES = (ONE, DATA_INPUT, OTHER)

NUMBERS = [
    "[1,2,3]",
    "[0.5, -1e3,\n7]",
    "[1,2]",
    "[]",
    "[[1,2,3]]",
    "[1,2,true]",
    '[1,2,"3"]',
    "[1,2,null]",
    "null",
    "[1e39,0,0]",
]
NUMBERS += ["[1,2,3", "[1,2,3]]", "[1,2,3],4", '[1,2,3],"data":[4,5,6]', '[1,2,3]}],"id":"7","inputs":[{"name":"x"']
KEYS = [
    '"name":"x"',
    '"name":"data"',
    '"shape":[1,3]',
    '"shape":[1,2]',
    '"datatype":"FP32"',
    '"datatype":"FP64"',
    '"data":%s',
]
KEYS += ['"d\\u0061ta":%s', '"parameters":{"data":1}', '"parameters":{}', '"more":[1]']
AROUND = ['{"inputs":[{%s}]}', '{"id":"a","inputs":[{%s}]}', '{"id":"","inputs" : [ {%s} ] }', '{"inputs":[{%s},{%s}]}']
AROUND += [
    '{"inputs":[{%s}],"outputs":[{"name":"y"}]}',
    '{"data":[1],"inputs":[{%s}]}',
    '{"inputs":[{%s}],"inputs":[]}',
]
AROUND += ['{"inputs":[{%s}],"parameters":{"timeout":5}}', '{"inputs":[{%s}],"parameters":{"binary_data_output":true}}']
PLAIN = '"name":"x","shape":[1,3],"datatype":"FP32","data":%s'


@st.composite
def texts(draw: st.DrawFn) -> str:
    """The JSON around the numbers, which stand where %s is; mostly that of a valid request."""
    keys = draw(
        st.one_of(
            st.permutations(PLAIN.split(',"')).map(_join), st.lists(st.sampled_from(KEYS), max_size=6).map(",".join)
        )
    )
    return draw(st.sampled_from(AROUND)).replace("%s", keys)


def _join(keys: list[str]) -> str:
    return ",".join(key if key.startswith('"') else f'"{key}' for key in keys)


def read(decoder: BodyDecoder, body: str, signature: Signature) -> Any:
    """What a request says, or why it is refused."""
    try:
        found = decoder.decode(body.encode(), None, signature)
    except Fault as fault:
        return type(fault), str(fault)
    given_ = (
        found.given
        if isinstance(found.given, bytes)
        else [(item.name, item.datatype, item.data.shape, item.data.tobytes()) for item in found.given]
    )
    requested = None if found.requested is None else [item.name for item in found.requested]
    return found.id, given_, requested, found.binary, found.timeout_ns, found.nulls


def new_decoder() -> BodyDecoder:
    return BodyDecoder(RequestLimits(), SharedRegions())


@given(
    st.lists(
        st.tuples(texts(), st.lists(st.sampled_from(NUMBERS), min_size=2, max_size=4), st.sampled_from(SIGNATURES)),
        min_size=1,
        max_size=3,
    )
)
@example([('{"inputs":[{%s}]}'.replace("%s", PLAIN), NUMBERS, ONE)])
@example([('{"inputs":[{"data":%s,"name":"x","shape":[1,3],"datatype":"FP32"}]}', NUMBERS, ONE)])
@example([('{"inputs":[{"name":"data","shape":[1,3],"datatype":"FP64","data":%s}]}', NUMBERS, DATA_INPUT)])
@example([('{"inputs":[{"data":%s,"d\\u0061ta":[1,2,3],"name":"x","shape":[1,3],"datatype":"FP32"}]}', NUMBERS, ONE)])
def test_a_request_means_the_same_whatever_came_before(asked: list[tuple[str, list[str], Signature]]) -> None:
    decoder = new_decoder()
    for text, numbers, signature in asked:
        for data in numbers:
            body = text.replace("%s", data)
            assert read(decoder, body, signature) == read(new_decoder(), body, signature)


def request(numbers: list[float], **more: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": numbers}
    return json.dumps({"inputs": [tensor], **more}).encode()


def test_the_json_around_a_row_is_not_parsed_again() -> None:
    """What is remembered is not even JSON here."""
    decoder, row = new_decoder(), ONE.row
    assert row is not None
    decoder._row_texts.put(b'before "data":', KnownRowText(b" after", row), 1)
    again = Signature(ONE.inputs, (), batching=True)
    for signature in (ONE, again, ONE):
        found = decoder.decode(b'before "data":[4, 5, 6.5] after', None, signature)
        assert found.given == row.pack(4, 5, 6.5)
    with pytest.raises(InvalidInput):
        decoder.decode(b'before "data":[4, 5] after', None, OTHER)


def test_what_is_remembered_is_bounded() -> None:
    decoder = new_decoder()
    for number in range(MAX_HEADERS + 10):
        decoder.decode(request([1, 2, 3], more=number), None, ONE)
        decoder.decode(f'{{"more":{number},'.encode() + request([1, 2, 3])[1:], None, ONE)
    assert len(decoder._row_texts) == MAX_HEADERS
    own, long = new_decoder(), new_decoder()
    own.decode(request([1, 2, 3], id="a"), None, ONE)
    long.decode(request([1, 2, 3], more="x" * MAX_HEADER), None, ONE)
    assert (len(own._row_texts), len(long._row_texts)) == (0, 0)
