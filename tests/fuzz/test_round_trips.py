"""Hypothesis over both codecs from outside: any tensor comes back the same through an identity model."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from tests.budgets import examples
from tests.conformance.wire import NUMPY_TYPES, TRANSPORTS, Array, Ask, Input, Refused, Transport
from tests.harness import Server

DATATYPES = ["BOOL", "INT64", "FP16", "FP32", "BYTES"]
SHAPES = nps.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6)
TEXTS = st.text(max_size=12).map(str.encode)

RELAXED = settings(
    max_examples=examples(60),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", params=TRANSPORTS, ids=lambda kind: kind.name)
def way(request: pytest.FixtureRequest, target: Server) -> Iterator[Transport]:
    """Each transport to the fuzzed server."""
    opened: Transport = request.param(target)
    yield opened
    opened.close()


def tensors(datatype: str, finite: bool) -> st.SearchStrategy[Array]:
    """Any array of a datatype."""
    if datatype == "BYTES":
        return SHAPES.flatmap(lambda shape: nps.arrays(object, shape, elements=TEXTS))
    dtype = np.dtype(NUMPY_TYPES[datatype])
    options: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if finite and dtype.kind == "f" else {}
    return nps.arrays(dtype, SHAPES, elements=nps.from_dtype(dtype, **options))


@pytest.mark.parametrize("datatype", DATATYPES)
@given(data=st.data())
@RELAXED
def test_a_tensor_comes_back(way: Transport, datatype: str, data: st.DataObject) -> None:
    if datatype == "FP16" and not way.raw:
        return
    array = data.draw(tensors(datatype, finite=way.name == "rest-json"))
    answer = way.infer(Ask(f"identity_{datatype.lower()}", [Input("x", datatype, array.shape, array)]))
    [output] = answer.outputs
    assert (output.datatype, output.shape) == (datatype, array.shape)
    assert output.data.tolist() == array.tolist() if datatype == "BYTES" else output.data.tobytes() == array.tobytes()


@given(data=st.data(), identity=st.text(min_size=1, max_size=40))
@RELAXED
def test_whatever_is_stated_is_answered_or_refused(way: Transport, data: st.DataObject, identity: str) -> None:
    stated = data.draw(st.sampled_from([*NUMPY_TYPES, "FLOAT", ""]))
    shape = data.draw(st.lists(st.integers(-1, 1 << 40), max_size=4))
    array = data.draw(tensors(data.draw(st.sampled_from(["BOOL", "FP32", "BYTES"])), finite=True))
    name = data.draw(st.sampled_from(["x", "y", "", "number"]))
    model = data.draw(st.sampled_from(["identity_fp32", "identity_bytes", "identity_bool", "mixed", "logistic"]))
    ending = outcome(way, Ask(model, [Input(name, stated, tuple(shape), array)], id=identity))
    assert ending in {identity, 400, None}


def outcome(way: Transport, ask: Ask) -> str | int | None:
    """The id that was answered, or the code of a refusal; None when these messages cannot hold the values."""
    try:
        return way.infer(ask).id
    except Refused as refusal:
        return refusal.code
    except (ValueError, TypeError):
        return None
