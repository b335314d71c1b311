"""Messages of TensorFlow Serving to tensors and back: every datatype and form, and all that is refused."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.grpc.decode import InferMessage
from penstock.api.grpc.framing import PREFIX
from penstock.api.grpc.tensorflow_serving import predict as predict_module
from penstock.api.grpc.tensorflow_serving import tensor_reader
from penstock.api.grpc.tensorflow_serving.datatypes import FIELD_OF, FIELDS, NUMBERS
from penstock.api.grpc.tensorflow_serving.examples import MAX_MESSAGE, ExampleForm
from penstock.api.grpc.tensorflow_serving.model_spec import spec_of
from penstock.api.grpc.tensorflow_serving.predict import PredictForm
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.labels import Protocol, Route
from penstock.core.limits import RequestLimits
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import PauseWork, no_pause
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor, to_raw
from penstock.engine.model import Model
from penstock.engine.session import closed_run
from penstock.monitor.counters.slot import Slot
from penstock.proto import tensorflow_pb2 as tf
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.shared_memory import SharedRegions
from penstock.serving.version_info import VersionIdentity
from tests.calls import join_payload
from tests.unit.api.grpc.messages import same, tensors

FLOAT = TensorSpec("x", "FP32", (-1,))
HALF_PLUS_TWO = Signature([FLOAT], [TensorSpec("y", "FP32", (-1,))], batching=True)


def loaded(signature: Signature, version: str = "123") -> LoadedVersion:
    identity = VersionIdentity("half", version)
    return LoadedVersion(identity, Model(closed_run, signature), ModelOptions(), {}, Slot.in_process().block(1))


def decode(
    form: PredictForm | ExampleForm,
    message: bytes,
    signature: Signature,
    pause: PauseWork | None = no_pause,
    limits: RequestLimits | None = None,
) -> InferMessage:
    work = RequestWork(limits or RequestLimits(), pause)
    return form.decode(form.parse(message, pause), loaded(signature), SharedRegions(), work, "")


def shape_of(*dims: int) -> tf.TensorShapeProto:
    return tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=size) for size in dims])


def request_with(proto: tf.TensorProto, name: str = "x", **more: Any) -> bytes:
    return ts.PredictRequest(model_spec=ts.ModelSpec(name="half"), inputs={name: proto}, **more).SerializeToString()


def predicted(proto: tf.TensorProto, spec: TensorSpec = FLOAT, **more: Any) -> Array:
    message = decode(PredictForm(), request_with(proto, spec.name), Signature([spec], []), **more)
    return message.tensors[0].data


def refused(proto: tf.TensorProto, spec: TensorSpec = FLOAT, **more: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        predicted(proto, spec, **more)
    return str(caught.value)


def typed_proto(tensor: Tensor) -> tf.TensorProto:
    """A tensor as its clients write it."""
    proto = tf.TensorProto(dtype=tf.DataType.Name(NUMBERS[tensor.datatype]), tensor_shape=shape_of(*tensor.data.shape))
    data = tensor.data
    if tensor.datatype in ("FP16", "BF16"):
        data = np.ascontiguousarray(data).view(np.uint16)
    values = data.ravel().tolist()
    if tensor.datatype == "BYTES":
        values = [text.encode() for text in values]
    getattr(proto, FIELDS[FIELD_OF[tensor.datatype]]).extend(values)
    return proto


# Predict: requests.


@given(tensors(), st.booleans())
@settings(max_examples=60)
def test_both_forms_of_every_datatype_are_read(tensor: Tensor, as_content: bool) -> None:
    proto = typed_proto(tensor)
    if as_content and tensor.datatype != "BYTES":
        del getattr(proto, FIELDS[FIELD_OF[tensor.datatype]])[:]
        proto.tensor_content = to_raw(tensor.datatype, tensor.data)
    spec = TensorSpec(tensor.name, tensor.datatype, tensor.data.shape)
    message = decode(PredictForm(), request_with(proto, tensor.name), Signature([spec], []))
    assert len(message.tensors) == 1
    assert same(message.tensors[0], tensor)


def test_a_short_list_repeats_its_last_element_and_an_empty_one_means_zeros() -> None:
    assert predicted(tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(4), float_val=[1, 2])).tolist() == [
        1,
        2,
        2,
        2,
    ]
    assert predicted(tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(2))).tolist() == [0, 0]
    with pytest.raises(TooLarge, match="send all of them"):
        predicted(
            tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(tensor_reader.MAX_REPEATED + 1), float_val=[1])
        )


def test_numbers_may_be_given_one_by_one() -> None:
    packed = request_with(tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(2), float_val=[1.5, 2.5]))
    values = np.array([1.5, 2.5], "<f4").tobytes()
    one_by_one = b"\x2d" + values[:4] + b"\x2d" + values[4:]
    proto = tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(2)).SerializeToString() + one_by_one
    entry = b"\x0a\x01x\x12" + bytes([len(proto)]) + proto
    message = ts.PredictRequest(model_spec=ts.ModelSpec(name="half")).SerializeToString()
    message += b"\x12" + bytes([len(entry)]) + entry
    for raw in (packed, message):
        assert decode(PredictForm(), raw, HALF_PLUS_TWO).tensors[0].data.tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("proto", "spec", "words"),
    [
        (tf.TensorProto(dtype="DT_INT64", tensor_shape=shape_of(1), int64_val=[1]), FLOAT, "got INT64; expected"),
        (tf.TensorProto(tensor_shape=shape_of(1), float_val=[1]), FLOAT, "the dtype 0, which is not offered"),
        (
            tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(1), int_val=[1]),
            FLOAT,
            "has int_val; expected float_val",
        ),
        (
            tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(1), float_val=[1, 2]),
            FLOAT,
            "needs 1 elements, got more",
        ),
        (tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(2), tensor_content=bytes(4)), FLOAT, "needs 8 bytes"),
        (tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(-1), float_val=[1]), FLOAT, "impossible shape"),
        (tf.TensorProto(dtype="DT_FLOAT", float_val=[1]), FLOAT, "got rank 0"),
        (
            tf.TensorProto(dtype="DT_FLOAT", tensor_shape=tf.TensorShapeProto(unknown_rank=True), float_val=[1]),
            FLOAT,
            "unknown rank",
        ),
        (tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(*[1] * 33), float_val=[1]), FLOAT, "more than 32"),
        (
            tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(1), float_val=[1], tensor_content=bytes(4)),
            FLOAT,
            "both tensor_content and elements",
        ),
        (
            tf.TensorProto(dtype="DT_UINT8", tensor_shape=shape_of(1), int_val=[256]),
            TensorSpec("x", "UINT8", (-1,)),
            "outside the range of UINT8",
        ),
        (
            tf.TensorProto(dtype="DT_HALF", tensor_shape=shape_of(1), half_val=[65536]),
            TensorSpec("x", "FP16", (-1,)),
            "outside the range of FP16",
        ),
        (
            tf.TensorProto(dtype="DT_STRING", tensor_shape=shape_of(1), string_val=[b"\xff"]),
            TensorSpec("x", "BYTES", (-1,)),
            "not UTF-8",
        ),
        (
            tf.TensorProto(dtype="DT_STRING", tensor_shape=shape_of(2), string_val=[b"a"]),
            TensorSpec("x", "BYTES", (-1,)),
            "needs 2 elements, got 1",
        ),
        (
            tf.TensorProto(dtype="DT_STRING", tensor_shape=shape_of(1), tensor_content=b"a"),
            TensorSpec("x", "BYTES", (-1,)),
            "expected string_val",
        ),
    ],
)
def test_tensors_that_contradict_themselves_are_refused(proto: tf.TensorProto, spec: TensorSpec, words: str) -> None:
    assert words in refused(proto, spec)


def test_unknown_inputs_and_outputs_are_refused() -> None:
    proto = tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape_of(1), float_val=[1])
    with pytest.raises(InvalidInput, match="unknown input 'z'"):
        decode(PredictForm(), request_with(proto, "z"), HALF_PLUS_TWO)
    with pytest.raises(InvalidInput, match="unknown output 'z'"):
        decode(PredictForm(), request_with(proto, output_filter=["z"]), HALF_PLUS_TWO)
    message = decode(PredictForm(), request_with(proto, output_filter=["y"]), HALF_PLUS_TWO)
    assert message.requested is not None
    assert [item.name for item in message.requested] == ["y"]


@pytest.mark.parametrize("raw", [b"\x0a", b"\x12\x02\x0a\x05", b"\x12\x03\x0a\x01\xff", b"\x0a\x02\xff\xff", b"\x03"])
def test_malformed_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"is not a valid (PredictRequest|ModelSpec)"):
        PredictForm().parse(ts.PredictRequest(model_spec=ts.ModelSpec(name="m")).SerializeToString() + raw, None)


@given(st.binary(max_size=60))
@settings(max_examples=100)
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    try:
        parsed = PredictForm().parse(raw, no_pause)
        work = RequestWork(RequestLimits(), no_pause)
        PredictForm().decode(parsed, loaded(HALF_PLUS_TWO), SharedRegions(), work, "")
    except (InvalidInput, TooLarge):
        pass


def test_large_messages_are_read_on_a_thread_and_bounded() -> None:
    many = [b"a"] * (tensor_reader.INLINE_FIELDS + 1)
    proto = tf.TensorProto(dtype="DT_STRING", tensor_shape=shape_of(len(many)), string_val=many)
    spec = TensorSpec("x", "BYTES", (-1,))
    with pytest.raises(LargeWork):
        predicted(proto, spec, pause=None)
    with pytest.raises(TooLarge, match="max_text_elements"):
        predicted(proto, spec, limits=RequestLimits(max_text_elements=100))
    numbers = tf.TensorProto(dtype="DT_INT64", tensor_shape=shape_of(1 << 16), int64_val=[-1] * (1 << 16))
    with pytest.raises(LargeWork):
        predicted(numbers, TensorSpec("x", "INT64", (-1,)), pause=None)
    assert predicted(numbers, TensorSpec("x", "INT64", (-1,))).min() == -1
    with pytest.raises(TooLarge, match="max_elements"):
        predicted(numbers, TensorSpec("x", "INT64", (-1,)), limits=RequestLimits(max_elements=10))
    fields = ts.PredictRequest(output_filter=["y"] * (predict_module.INLINE_FIELDS + 1)).SerializeToString()
    with pytest.raises(LargeWork):
        PredictForm().parse(fields, None)
    with pytest.raises(TooLarge, match="fields"):
        PredictForm().parse(fields * 20, no_pause)


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        (ts.ModelSpec(name="m"), ("m", "")),
        (ts.ModelSpec(name="m", version=ts.Int64Value(value=3)), ("m", "3")),
        (ts.ModelSpec(name="m", version=ts.Int64Value()), ("m", "0")),
        (ts.ModelSpec(name="m", version_label="stable"), ("m", "stable")),
        (ts.ModelSpec(name="m", signature_name="serving_default"), ("m", "")),
    ],
)
def test_the_model_spec_names_the_target(spec: ts.ModelSpec, target: tuple[str, str]) -> None:
    for form in (PredictForm(), ExampleForm(classifies=True)):
        request = form.parse(ts.PredictRequest(model_spec=spec).SerializeToString(), None).request
        assert (request.model_name, request.model_version) == target


def test_models_without_name_and_other_signatures_are_refused() -> None:
    for form in (PredictForm(), ExampleForm(classifies=False)):
        with pytest.raises(InvalidInput, match=r"model_spec\.name is empty"):
            form.parse(b"", None)
        other = ts.PredictRequest(model_spec=ts.ModelSpec(name="m", signature_name="other"))
        with pytest.raises(InvalidInput, match='signature name: "other" not found'):
            form.parse(other.SerializeToString(), None)
    with pytest.raises(TooLarge, match="model_spec"):
        PredictForm().parse(ts.PredictRequest(model_spec=ts.ModelSpec(name="m" * 20_000)).SerializeToString(), None)


# Predict: answers.


def call_with(version: LoadedVersion, outputs: Sequence[Tensor]) -> InferCall:
    call = InferCall(version, Route.STABLE, Protocol.GRPC, "7", [], None, deadline_ns=0, began_ns=0)
    call.outputs = list(outputs)
    return call


@given(st.lists(tensors(), min_size=1, max_size=3, unique_by=lambda tensor: tensor.name))
@settings(max_examples=60)
def test_answers_are_typed_and_read_back_the_same(outputs: list[Tensor]) -> None:
    version = loaded(HALF_PLUS_TWO)
    template = PredictForm().template(version, RequestLimits())
    message = join_payload(template.answer(call_with(version, outputs), False, no_pause))
    assert int.from_bytes(message[1:PREFIX]) == len(message) - PREFIX
    response = ts.PredictResponse.FromString(message[PREFIX:])
    assert response.model_spec == ts.ModelSpec(
        name="half", version=ts.Int64Value(value=123), signature_name="serving_default"
    )
    for tensor in outputs:
        proto = response.outputs[tensor.name]
        assert proto.SerializeToString() == typed_proto(tensor).SerializeToString()


def test_answers_are_bounded_and_large_ones_written_on_a_thread() -> None:
    version = loaded(HALF_PLUS_TWO)
    call = call_with(version, [Tensor("y", "INT64", np.arange(1 << 16, dtype="<i8"))])
    template = PredictForm().template(version, RequestLimits())
    with pytest.raises(LargeWork):
        template.answer(call, False)
    with pytest.raises(TooLarge, match="the answer is over the limit"):
        PredictForm().template(version, RequestLimits(max_output_bytes=100)).answer(call, False, no_pause)


@pytest.mark.parametrize("version", ["1.4.0", "2026-11-20", "0017", str(1 << 63)])
def test_versions_that_are_not_numbers_are_labels(version: str) -> None:
    assert spec_of("m", version) == ts.ModelSpec(name="m", version_label=version)


# Classify and Regress.


def feature(*values: Any) -> tf.Feature:
    if isinstance(values[0], bytes):
        return tf.Feature(bytes_list=tf.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.Feature(int64_list=tf.Int64List(value=values))
    return tf.Feature(float_list=tf.FloatList(value=values))


def example(**features: tf.Feature) -> tf.Example:
    return tf.Example(features=tf.Features(feature=features))


def regression(*examples: tf.Example, context: tf.Example | None = None) -> bytes:
    given_input = ts.Input(example_list=ts.ExampleList(examples=examples))
    if context is not None:
        shared = ts.ExampleListWithContext(examples=examples, context=context)
        given_input = ts.Input(example_list_with_context=shared)
    return ts.RegressionRequest(model_spec=ts.ModelSpec(name="half"), input=given_input).SerializeToString()


def test_examples_become_inputs_and_values_come_back() -> None:
    form, version = ExampleForm(classifies=False), loaded(HALF_PLUS_TWO)
    message = decode(form, regression(example(x=feature(1.0)), example(x=feature(2), z=feature(b"?"))), HALF_PLUS_TWO)
    assert message.tensors[0].data.tolist() == [1, 2]
    call = call_with(version, [Tensor("y", "FP32", np.array([2.5, 3], "<f4"))])
    answer = join_payload(form.template(version, RequestLimits()).answer(call, False))
    assert ts.RegressionResponse.FromString(answer[PREFIX:]) == ts.RegressionResponse(
        result=ts.RegressionResult(regressions=[ts.Regression(value=2.5), ts.Regression(value=3)]),
        model_spec=ts.ModelSpec(name="half", version=ts.Int64Value(value=123)),
    )


def test_the_context_belongs_to_every_example() -> None:
    signature = Signature(
        [TensorSpec("a", "FP32", (-1, 2)), TensorSpec("t", "BYTES", (-1, 1))], [TensorSpec("y", "FP32", (-1,))], True
    )
    form = ExampleForm(classifies=False)
    raw = regression(example(a=feature(1.0, 2.0)), example(a=feature(3.0, 4.0)), context=example(t=feature(b"q")))
    tensors_read = decode(form, raw, signature).tensors
    assert tensors_read[0].data.tolist() == [[1, 2], [3, 4]]
    assert tensors_read[1].data.tolist() == [["q"], ["q"]]
    both = regression(example(a=feature(1.0, 2.0), t=feature(b"q")), context=example(t=feature(b"q")))
    with pytest.raises(InvalidInput, match="feature 't' of example 0 is in the context too"):
        decode(form, both, signature)


def test_classes_come_back_with_label_and_score() -> None:
    outputs = [TensorSpec("p", "FP32", (-1, 2), labels=("no", "yes")), TensorSpec("label", "INT64", (-1,))]
    signature = Signature([FLOAT], outputs, batching=True)
    form, version = ExampleForm(classifies=True), loaded(signature)
    decode(form, regression(example(x=feature(1.0))), signature)
    call = call_with(version, [Tensor("p", "FP32", np.array([[0.25, 0.75]], "<f4"))])
    answer = join_payload(form.template(version, RequestLimits()).answer(call, False))
    result = ts.ClassificationResponse.FromString(answer[PREFIX:]).result
    assert [(item.label, item.score) for item in result.classifications[0].classes] == [("no", 0.25), ("yes", 0.75)]


def test_models_without_such_outputs_are_refused_before_they_run() -> None:
    with pytest.raises(InvalidInput, match="0 outputs to classify by"):
        decode(ExampleForm(classifies=True), regression(example(x=feature(1.0))), HALF_PLUS_TWO)
    two = Signature([FLOAT], [TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1, 1))], True)
    with pytest.raises(InvalidInput, match="2 outputs to regress by"):
        decode(ExampleForm(classifies=False), regression(example(x=feature(1.0))), two)


REGRESS = ExampleForm(classifies=False)


def test_long_lists_of_examples_are_refused_or_read_on_a_thread() -> None:
    with pytest.raises(TooLarge, match="send fewer at a time"):
        REGRESS.parse(bytes(MAX_MESSAGE + 1), no_pause)
    with pytest.raises(InvalidInput, match="not a valid RegressionRequest"):
        REGRESS.parse(b"\xff", None)
    with pytest.raises(TooLarge, match="more than 64 fields"):
        REGRESS.parse(b"\x12\x00" * 65, None)
    many = regression(*[example(x=feature(1.0))] * 1500)
    with pytest.raises(LargeWork):
        decode(REGRESS, many, HALF_PLUS_TWO, pause=None)
    assert decode(REGRESS, many, HALF_PLUS_TWO).tensors[0].data.tolist() == [1] * 1500
    with pytest.raises(TooLarge, match="more than 65536 examples"):
        decode(REGRESS, regression(*[example()] * 65_537), HALF_PLUS_TWO)
    floats = regression(example(x=tf.Feature(float_list=tf.FloatList(value=range(40_000)))))
    with pytest.raises(LargeWork):
        decode(REGRESS, floats, HALF_PLUS_TWO, pause=None)
    with pytest.raises(TooLarge, match="max_elements"):
        decode(REGRESS, floats, HALF_PLUS_TWO, limits=RequestLimits(max_elements=100))
    texts = regression(example(x=tf.Feature(bytes_list=tf.BytesList(value=[b"a"] * 200))))
    with pytest.raises(TooLarge, match="max_text_elements"):
        decode(REGRESS, texts, HALF_PLUS_TWO, limits=RequestLimits(max_text_elements=100))


def test_a_context_is_counted_with_every_example() -> None:
    wide = Signature([TensorSpec("x", "FP32", (-1, -1))], [TensorSpec("y", "FP32", (-1,))], batching=True)
    context = example(x=tf.Feature(float_list=tf.FloatList(value=range(1000))))
    with pytest.raises(TooLarge, match="max_elements"):
        decode(REGRESS, regression(*[example()] * 10_000, context=context), wide)


@given(st.binary(max_size=40), st.sampled_from([b"", b"\x0a", b"\x12"]))
@settings(max_examples=100)
def test_any_bytes_are_examples_or_refused(raw: bytes, tag: bytes) -> None:
    inner = tag + bytes([len(raw)]) + raw if tag else raw
    message = ts.PredictRequest(model_spec=ts.ModelSpec(name="m")).SerializeToString()
    with suppress(InvalidInput, TooLarge):
        decode(REGRESS, message + b"\x12" + bytes([len(inner)]) + inner, HALF_PLUS_TWO)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=5))
@settings(max_examples=30)
def test_integers_are_read_as_they_are_sent(values: list[int]) -> None:
    signature = Signature([TensorSpec("x", "INT64", (-1, -1))], [TensorSpec("y", "FP32", (-1,))], batching=True)
    raw = regression(example(x=tf.Feature(int64_list=tf.Int64List(value=values)), z=feature(b"?")))
    assert decode(REGRESS, raw, signature).tensors[0].data.tolist() == [values]


def test_the_last_kind_of_examples_and_of_a_feature_counts() -> None:
    message = ts.RegressionRequest(model_spec=ts.ModelSpec(name="m")).SerializeToString()
    first = ts.ExampleList(examples=[example(x=feature(1.0))]).SerializeToString()
    second = ts.ExampleListWithContext(examples=[example(x=feature(2.0))]).SerializeToString()
    parts = b"\x0a" + bytes([len(first)]) + first + b"\x12" + bytes([len(second)]) + second
    message += b"\x12" + bytes([len(parts)]) + parts
    assert decode(REGRESS, message, HALF_PLUS_TWO).tensors[0].data.tolist() == [2]
    assert ts.RegressionRequest.FromString(message).input.WhichOneof("kind") == "example_list_with_context"


def test_every_datatype_has_a_number_and_a_field() -> None:
    assert NUMBERS.keys() == FIELD_OF.keys() == NUMPY_TYPES.keys()
