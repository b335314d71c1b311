"""The answers of a model to synthetic inputs: recorded at admission, compared when it is loaded.

The inputs are the same on every machine. Answers are compared bit by bit, and where that fails by samples within a
tolerance, since another processor may round another way.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from penstock.core.errors import Fault
from penstock.core.options import WarmupSample
from penstock.core.signature import BoundInputs, Signature
from penstock.core.tensors import Array, Tensor
from penstock.engine import warmup
from penstock.engine.model import Model

Document = dict[str, Any]

FORM = 1
"""The version of the synthetic inputs: answers to other versions are not comparable."""

ROWS = 3
SAMPLES = 16
MOST_SAMPLES = 4
RELATIVE, ABSOLUTE = 1e-3, 1e-5


class ProbeFailed(Exception):
    """The model runs on none of the synthetic inputs; the text is its error for the first."""


def probe(model: Model, samples: Sequence[WarmupSample]) -> Document:
    """Return the model's answers as JSON values; ``samples`` are those of its configuration.

    Raises:
        ProbeFailed: it answers nothing.
    """
    cases: list[Document] = []
    refusal = "it has no input for which there is a synthetic value"
    for name, tensors in synthetic_inputs(model.signature, samples):
        try:
            bound = model.signature.bind(tensors)
            first, second = _answer(model, bound), _answer(model, bound)
        except (Fault, MemoryError) as error:
            refusal = refusal if cases else str(error)
            continue
        same = [item["sha256"] for item in first] == [item["sha256"] for item in second]
        cases.append({"inputs": name, "deterministic": same, "outputs": first})
    if not cases:
        raise ProbeFailed(refusal)
    return {"form": FORM, "cases": cases}


def compare(expected: Document, model: Model, samples: Sequence[WarmupSample]) -> str:
    """Return how the model's answers differ from the expected ones, "" if they do not; incomparable answers are
    skipped.
    """
    if expected.get("form") != FORM:
        return ""
    wanted = {case["inputs"]: case for case in expected["cases"] if case["deterministic"]}
    for name, tensors in synthetic_inputs(model.signature, samples):
        if name in wanted:
            try:
                answers = _answer(model, model.signature.bind(tensors))
            except Fault as fault:
                return f"for {name} it does not answer as it did at its admission: {fault}"
            if difference := _describe_difference(wanted[name]["outputs"], answers):
                return f"for {name} its answers differ from those at its admission: {difference}"
    return ""


def synthetic_inputs(signature: Signature, samples: Sequence[WarmupSample]) -> Iterator[tuple[str, list[Tensor]]]:
    """Return the synthetic inputs, each with its name."""
    yield "zeros", warmup.default_tensors(signature)
    rows = (1, ROWS) if signature.batching and signature.max_batch_size != 1 else (1,)
    for count in rows:
        yield f"random numbers, rows: {count}", warmup.random_tensors(signature, count)
    for number, sample in enumerate(islice(samples, MOST_SAMPLES)):
        yield f"sample {number}", warmup.sample_tensors(sample, signature)


def _answer(model: Model, bound: BoundInputs) -> list[Document]:
    specs = model.signature.outputs
    arrays = model.run(bound.feeds, [spec.name for spec in specs])
    return [
        {"name": spec.name, "datatype": spec.datatype, **_describe(array)}
        for spec, array in zip(specs, arrays, strict=True)
    ]


def _describe(array: Array) -> Document:
    flat = array.reshape(-1)
    if array.dtype == object:
        texts = [str(text) for text in flat.tolist()]
        content, sample = "\0".join(texts).encode(), [text[:64] for text in texts[:SAMPLES]]
    else:
        content = np.ascontiguousarray(array).tobytes()
        sample = [_to_json_number(value) for value in flat[:SAMPLES].tolist()]
    return {"shape": list(array.shape), "sha256": hashlib.sha256(content).hexdigest(), "sample": sample}


def _to_json_number(value: Any) -> Any:
    """Return a number as JSON, which has no infinity and no NaN."""
    return value if not isinstance(value, float) or np.isfinite(value) else str(value)


def _describe_difference(expected: list[Document], answers: list[Document]) -> str:
    if [item["name"] for item in expected] != [answer["name"] for answer in answers]:
        return "its outputs have other names"
    for wanted, got in zip(expected, answers, strict=True):
        if (wanted["datatype"], wanted["shape"]) != (got["datatype"], got["shape"]):
            return f"output '{got['name']}' has another type or shape"
        if wanted["sha256"] != got["sha256"] and not _close(wanted["sample"], got["sample"]):
            return f"output '{got['name']}' has other values"
    return ""


def _close(expected: list[Any], got: list[Any]) -> bool:
    if any(isinstance(value, str) for value in (*expected, *got)):
        return expected == got
    return np.allclose(np.array(got, float), np.array(expected, float), rtol=RELATIVE, atol=ABSOLUTE)
