"""Answers made of remembered parts say what a plain encoder says, whatever one version was asked before."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.common.answer_rules import in_asked_form
from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.rest.encode import RestAnswerTemplate
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import no_pause
from penstock.core.tensors import NUMPY_TYPES, RAW_ONLY, Tensor, to_raw
from penstock.engine.model import Model
from penstock.engine.session import closed_run
from penstock.monitor.counters.slot import Slot
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.version_info import VersionIdentity
from tests.unit.api.grpc.test_answer_template import alone, call_of, together, versions

LIMITS = RequestLimits()
REFUSED = "refused"
Form = tuple[list[bool] | bool, bool]
"""Which outputs are wanted as binary data, and whether NaN and infinity may be null."""


@st.composite
def stories(draw: st.DrawFn) -> tuple[LoadedVersion, list[tuple[InferCall, Form]]]:
    """A version, and what it is asked one after the other."""
    version, calls = draw(versions()), list[InferCall]()
    for _ in range(draw(st.integers(1, 6))):
        calls += draw(st.sampled_from((alone, together)))(draw, version)
    return version, [(call, (draw(binary(call)), draw(st.booleans()))) for call in calls]


@st.composite
def binary(draw: st.DrawFn, call: InferCall) -> list[bool] | bool:
    """The form of all outputs, or of each of those that are asked for."""
    if call.requested is None:
        return draw(st.booleans())
    count = len(call.requested)
    return draw(st.one_of(st.booleans(), st.lists(st.booleans(), min_size=count, max_size=count)))


def plain(call: InferCall, form: Form) -> tuple[dict[str, Any], bytes] | str:
    """The JSON part of an answer, with its data as bytes, and what follows it; written without any template."""
    wanted, nulls = form
    outputs, tail = [], b""
    for index in range(len(call.outputs)):
        tensor = in_asked_form(call, index, RequestWork(LIMITS, no_pause))
        head = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.data.shape)}
        if wanted if isinstance(wanted, bool) else wanted[index]:
            raw = to_raw(tensor.datatype, tensor.data)
            outputs.append({**head, "parameters": {"binary_data_size": len(raw)}})
            tail += raw
        elif tensor.datatype in RAW_ONLY or not (nulls or is_finite(tensor)):
            return REFUSED
        else:
            outputs.append({**head, "data": values_of(tensor.datatype, listed(tensor))})
    identity = call.loaded.identity
    document = {"model_name": identity.model, "model_version": identity.version, "id": call.id, "outputs": outputs}
    return document, tail


def is_finite(tensor: Tensor) -> bool:
    return tensor.datatype not in ("FP32", "FP64") or bool(np.isfinite(tensor.data).all())


def listed(tensor: Tensor) -> list[Any]:
    return [
        value if not isinstance(value, float) or np.isfinite(value) else None for value in tensor.data.ravel().tolist()
    ]


def values_of(datatype: str, data: list[Any]) -> Any:
    """Elements as what they mean: floats bit for bit, whatever their text; null stays null."""
    if datatype not in ("FP32", "FP64"):
        return data
    return [None if value is None else NUMPY_TYPES[datatype].type(value).tobytes() for value in data]


def encoded(
    template: RestAnswerTemplate, call: InferCall, form: Form, is_inline: bool
) -> tuple[dict[str, Any], bytes] | str:
    """What the template's answer says."""
    try:
        content, json_length, tail = template.answer(call, *form, None if is_inline else no_pause)
    except (InvalidInput, LargeWork):
        return REFUSED
    whole = b"".join((content, *tail))
    document = json.loads(whole[:json_length])
    for output in document["outputs"]:
        if "data" in output:
            output["data"] = values_of(output["datatype"], output["data"])
    return document, b"" if json_length is None else whole[json_length:]


@given(stories(), st.data())
def test_any_answer_says_what_the_plain_one_says(
    story: tuple[LoadedVersion, list[tuple[InferCall, Form]]], data: st.DataObject
) -> None:
    version, calls = story
    identity = version.identity
    template = RestAnswerTemplate(identity.model, identity.version, version.signature.outputs, LIMITS)
    for call, form in data.draw(st.permutations(calls)):
        expected = plain(call, form)
        for is_inline in (True, False):
            assert encoded(template, call, form, is_inline) == expected


@pytest.mark.parametrize("binary", [False, True])
def test_an_answer_over_the_limit_is_refused_in_every_form(binary: bool) -> None:
    specs = (TensorSpec("y", "FP32", (-1, 400)),)
    model = Model(closed_run, Signature((), specs))
    version = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, Slot.in_process().block(1))
    call = call_of(version, None, "id")
    call.outputs = [Tensor("y", "FP32", np.zeros((1, 400), np.float32))]
    template = RestAnswerTemplate("m", "1", specs, RequestLimits(max_output_bytes=1024))
    with pytest.raises(TooLarge):
        template.answer(call, binary)
