import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

from penstock.core.errors import Fault, Internal, InvalidInput, NotReady
from penstock.engine.faults import LONGEST_TEXT, load_fault, plain_text, run_fault

SOURCE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'/a/b' "
    "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 "
    "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) "
    "input_shape_size == size was false. The input tensor cannot be reshaped. Input shape:{3}\n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SOURCE, "Reshape: The input tensor cannot be reshaped. Input shape:{3}"),
        (
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /srv/m/1/model.onnx failed:Protobuf failed.",
            "Protobuf failed.",
        ),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid rank for input: x", "Invalid rank for input: x"),
        ("Status Message: element_wise_ops.cc:692 Compute Integer division by zero", "Integer division by zero"),
        ("open file /var/lib/models/weights.bin fail", "open file ... fail"),
        ("cannot open 'C:\\models\\x'", "cannot open '...'"),
        ("found \\\\host\\share\\x, ../x, ~/x and a/b/c.txt there", "found ..., ..., ... and ... there"),
        ("Exception in onnxruntime::Graph::Resolve", "Exception in ..."),
        ("weights of model.onnx and w.onnx.data are gone", "weights of ... and ... are gone"),
        ("ai.onnx.contrib:BertTokenizer(-1) is no function/op", "ai.onnx.contrib:BertTokenizer(-1) is no function/op"),
        ("/x", ""),
        ("", ""),
    ],
)
def test_what_is_reported_of_a_runtime_error(text: str, expected: str) -> None:
    assert plain_text(Fail(text)) == expected


@given(st.text(), st.sampled_from(["/", "/srv/", " /etc/x", "\n/a/b", ".cc:12", "~/x", "../x"]), st.text())
def test_no_path_and_no_long_text_gets_through(before: str, path: str, after: str) -> None:
    text = plain_text(Fail(before + path + after))
    assert len(text) <= LONGEST_TEXT
    assert "\n" not in text
    assert not re.search(r"(^|\s)/\w", text)


def test_faults_by_meaning() -> None:
    assert isinstance(run_fault(InvalidArgument("indices out of bounds")), InvalidInput)
    assert isinstance(run_fault(Fail("anything")), Internal)
    assert isinstance(run_fault(RuntimeError("anything")), Internal)
    assert isinstance(run_fault(MemoryError()), Internal)
    kept = NotReady("as it is")
    assert run_fault(kept) is kept


def test_a_load_fault_is_the_callers_to_mend() -> None:
    fault = load_fault(Fail("Load model from /x/y failed:No Op registered for Foo"))
    assert isinstance(fault, Fault)
    assert fault.kind == "invalid"
    assert str(fault) == "the graph cannot be loaded: No Op registered for Foo"
    assert str(load_fault(Fail("/x/y"))) == "the graph cannot be loaded by ONNX Runtime"


def test_operators_see_all_of_it() -> None:
    error = Fail("Exception in\n/srv/models/m/1/w.bin: it is\ttruncated")
    fault = load_fault(error)
    assert str(fault) == "the graph cannot be loaded: Exception in ...: it is truncated"
    assert fault.full_text == f"{fault} (Exception in /srv/models/m/1/w.bin: it is truncated)"
    assert "/srv/models" in run_fault(error).full_text
    assert NotReady("as it is").full_text == "as it is"


def test_a_folder_with_spaces_is_cut_as_a_whole() -> None:
    error = Fail('cannot map "/srv/our models/m/1/w.bin" of /srv/our models/m/1/model.onnx')
    text = plain_text(error, Path("/srv/our models/m/1/model.onnx"))
    assert text == 'cannot map "..." of ...'
