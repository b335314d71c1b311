"""The one list of wrong requests that every transport must refuse with the same code and a helpful sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.conformance.wire import Ask, Input, Parameters, RequestedOutput
from tests.zoo import UNAVAILABLE

NUMBER = Input.of("number", "FP32", [[1, 2, 3], [4, 5, 6]])
KEY = Input.of("key", "INT64", [[1, 2], [3, 4]])
ROWS = Input.of("x", "FP32", [[1, 2, 3]])
SAFE = Ask("logistic", [Input("x", "FP32", (1, 30), np.zeros((1, 30), np.float32))])
"""A request that must be answered after every mistake."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong request, the contract's REST code for it, and words its sentence must hold."""

    name: str
    code: int
    fragments: tuple[str, ...]
    ask: Ask


def stated(name: str, datatype: str, shape: Sequence[int], values: object) -> Input:
    """An input whose shape and data need not agree."""
    return Input(name, datatype, tuple(shape), Input.of(name, datatype, values).data)


def wrong(name: str, code: int, fragments: str, model: str, *inputs: Input, **rest: Any) -> Mistake:
    """A mistake, with its words parted by bars."""
    return Mistake(name, code, tuple(fragments.split("|")), Ask(model, inputs, **rest))


def addresses() -> Iterator[Mistake]:
    """Models and versions that are not there, or cannot answer."""
    yield wrong("unknown model", 404, "nobody", "nobody", ROWS)
    yield wrong("unknown model with a version", 404, "nobody", "nobody", ROWS, version="1")
    yield wrong("unknown version", 404, "pair|7", "pair", ROWS, version="7")
    yield wrong("version with a leading zero", 404, "pair|01", "pair", ROWS, version="01")
    yield wrong("unknown alias", 404, "pair|champion", "pair", ROWS, version="champion")
    yield wrong("version the policy leaves out", 404, "policy_latest|1", "policy_latest", ROWS, version="1")
    for model in UNAVAILABLE:
        yield wrong(f"not ready: {model}", 503, model, model, ROWS)


def names() -> Iterator[Mistake]:
    """Inputs and outputs that do not fit the signature's names."""
    other = Input.of("volume", "FP32", [[1, 2, 3], [4, 5, 6]])
    yield wrong("unknown input", 400, "volume|'number' FP32 [-1, 3]|'key' INT64 [-1, 2]", "mixed", NUMBER, KEY, other)
    yield wrong("wrong input name", 400, "volume|number", "mixed", other, KEY)
    yield wrong(
        "input name in other case", 400, "NUMBER|number", "mixed", stated("NUMBER", "FP32", (2, 3), NUMBER.data)
    )
    yield wrong("empty input name", 400, "number", "mixed", stated("", "FP32", (2, 3), NUMBER.data), KEY)
    yield wrong("missing input", 400, "key|INT64|[-1, 2]", "mixed", NUMBER)
    yield wrong("no input", 400, "x|FP32|[-1, 30]", "logistic")
    yield wrong("doubled input", 400, "number", "mixed", NUMBER, NUMBER, KEY)
    yield wrong("doubled only input", 400, "x", "vector", *[Input.of("x", "FP32", [1])] * 2)
    yield wrong(
        "unknown output", 400, "total|'doubled' FP32", "mixed", NUMBER, KEY, requested=[RequestedOutput("total")]
    )
    yield wrong(
        "one unknown output",
        400,
        "total",
        "mixed",
        NUMBER,
        KEY,
        requested=[RequestedOutput("next"), RequestedOutput("total")],
    )


def datatypes() -> Iterator[Mistake]:
    """Datatypes that do not exist or are not the model's."""
    yield wrong("wrong datatype", 400, "number|FP64|FP32", "mixed", stated("number", "FP64", (2, 3), NUMBER.data), KEY)
    yield wrong("signed for unsigned", 400, "x|INT8|UINT8", "identity_uint8", Input.of("x", "INT8", [[1]]))
    yield wrong("text for numbers", 400, "x|BYTES|FP32", "vector", Input.of("x", "BYTES", ["1"]))
    yield wrong("numbers for text", 400, "x|INT64|BYTES", "identity_bytes", Input.of("x", "INT64", [[1]]))
    for datatype in ("FLOAT", "STRING", "fp32", "INT128", "", "object"):
        given = Input("x", datatype, (1,), np.ones(1, np.float32))
        yield wrong(f"unknown datatype {datatype!r}", 400, "x|FP32", "vector", given)


def shapes() -> Iterator[Mistake]:
    """Ranks, dimensions and batch sizes that do not fit."""
    flat = NUMBER.data.ravel()
    yield wrong("rank too low", 400, "number|[6]|[-1, 3]", "mixed", stated("number", "FP32", (6,), flat), KEY)
    yield wrong("rank too high", 400, "number|[-1, 3]", "mixed", stated("number", "FP32", (1, 2, 3), flat), KEY)
    yield wrong("rank zero", 400, "x|[-1, 30]", "logistic", stated("x", "FP32", (), 1.0))
    yield wrong("scalar wanted", 400, "x|[]", "scalar", stated("x", "FP32", (1,), [1.0]))
    yield wrong("wrong dimension", 400, "number|[3, 2]|[-1, 3]", "mixed", stated("number", "FP32", (3, 2), flat), KEY)
    yield wrong("wrong fixed dimension", 400, "x|[3, 2]|[2, 3]", "static", stated("x", "FP32", (3, 2), flat))
    yield wrong("wrong fixed batch", 400, "x|[2, 3]|[4, 3]", "fixed_batch", stated("x", "FP32", (2, 3), flat))
    yield wrong("batch too large", 400, "4", "batched", Input.of("x", "FP32", [[1, 2, 3]] * 5))
    yield wrong("unequal batches", 400, "batch size|key", "mixed", NUMBER, Input.of("key", "INT64", [[1, 2]]))
    yield wrong("negative dimension", 400, "x|-1", "vector", stated("x", "FP32", (-1,), [1.0]))
    yield wrong("two negative dimensions", 400, "x", "identity_fp32", stated("x", "FP32", (-2, -3), [1.0] * 6))
    yield wrong("endless shape", 400, "x", "identity_fp32", stated("x", "FP32", (1 << 40, 1 << 40), [1.0]))
    yield wrong("overflowing shape", 400, "x", "identity_fp32", stated("x", "FP32", (1 << 62, 4), [1.0]))
    yield wrong("wrapping shape", 400, "x", "identity_fp32", stated("x", "FP32", (1 << 32, 1 << 32), []))
    yield wrong("hundred dimensions", 400, "x", "identity_fp32", stated("x", "FP32", (1,) * 100, [1.0]))


def amounts() -> Iterator[Mistake]:
    """Data that is shorter or longer than its shape."""
    for datatype, item in (("FP32", 1.5), ("INT8", 1), ("BOOL", True), ("UINT64", 1), ("BYTES", "a")):
        model = f"identity_{datatype.lower()}"
        yield wrong(f"too little {datatype}", 400, "x", model, stated("x", datatype, (2, 2), [item] * 3))
        yield wrong(f"too much {datatype}", 400, "x", model, stated("x", datatype, (2, 2), [item] * 5))
        yield wrong(f"no {datatype}", 400, "x", model, stated("x", datatype, (2, 2), []))
        yield wrong(f"data for an empty {datatype}", 400, "x", model, stated("x", datatype, (0, 2), [item]))


def parameters() -> Iterator[Mistake]:
    """Request and output parameters without meaning, and features that are not offered."""
    vector = Input.of("x", "FP32", [1, 2])
    timeouts: tuple[Parameters, ...] = ({"timeout": -1}, {"timeout": "soon"}, {"timeout": True}, {"timeout": 1.5})
    for stated_timeout in timeouts:
        yield wrong(f"{stated_timeout}", 400, "timeout", "vector", vector, parameters=stated_timeout)
    yield wrong("reserved parameter", 400, "triton_", "vector", vector, parameters={"triton_something": 1})
    for count in (-1, "many", True):
        requested_output = RequestedOutput("probabilities", {"classification": count})
        five = Input.of("x", "FP32", [[1, 2, 3, 4, 5]])
        yield wrong(f"classification {count!r}", 400, "classification", "labelled", five, requested=[requested_output])
    text = RequestedOutput("y", {"classification": 1})
    yield wrong(
        "classification of text", 400, "y|BYTES", "identity_bytes", Input.of("x", "BYTES", [["a"]]), requested=[text]
    )
    region = RequestedOutput("y", {"shared_memory_region": "r", "shared_memory_byte_size": 8})
    yield wrong("output to shared memory", 501, "shared memory", "vector", vector, requested=[region])


def failures() -> Iterator[Mistake]:
    """Right requests that cannot be answered: the model fails, or time is up."""
    yield wrong("index out of range", 400, "cannot take", "gather", Input.of("index", "INT64", [99]))
    pair = Input.of("a", "INT32", [4]), Input.of("b", "INT32", [0])
    yield wrong("division by zero", 400, "a divisor is 0", "divide", *pair)
    yield wrong("no time at all", 504, "deadline", "slow", Input.of("x", "FP32", [1]), parameters={"timeout": 1})
    yield wrong(
        "no time for a quick one", 504, "deadline", "vector", Input.of("x", "FP32", [1]), parameters={"timeout": 1}
    )


MISTAKES = [*addresses(), *names(), *datatypes(), *shapes(), *amounts(), *parameters(), *failures()]
