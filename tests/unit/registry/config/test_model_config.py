import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batching import BatchSharing
from penstock.core.errors import InvalidInput
from penstock.core.options import (
    ModelOptions,
    QueuePolicy,
    SessionOptions,
    TensorOptions,
    WarmupInput,
    WarmupSample,
)
from penstock.core.signature import Signature, TensorSpec
from penstock.core.versions import VersionPolicy
from penstock.proto import model_config_pb2 as pb
from penstock.registry.config.model_config import MAX_CONFIG_CHARACTERS, describe, parse_json, parse_text, read

SHARED = BatchSharing(True, "its graph proves that rows are independent")
ALONE = BatchSharing(False, "operator NonZero")


def options(text: str, folder: Path = Path("/nonexistent")) -> ModelOptions:
    return read(parse_text(text), folder)


def accelerated(entry: str) -> str:
    return f"optimization {{ execution_accelerators {{ cpu_execution_accelerator {{ {entry} }} }} }} "


def test_no_configuration_asks_for_nothing(tmp_path: Path) -> None:
    assert read("", tmp_path) == ModelOptions()
    assert options("") == ModelOptions()


def test_text_and_json_have_one_canonical_form() -> None:
    text = parse_text('max_batch_size: 8 input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]')
    document = '{"max_batch_size":8, "input":[{"name":"x","dataType":"TYPE_FP32","dims":[3,"-1"]}]}'
    assert json.loads(text) == json.loads(parse_json(document))
    assert json.loads(text)["input"][0]["data_type"] == "TYPE_FP32"
    assert parse_json(text) == text


def test_a_stated_zero_differs_from_none() -> None:
    assert options("max_batch_size: 0").max_batch_size == 0
    assert options("backend: 'onnxruntime'").max_batch_size is None
    assert read(parse_json('{"max_batch_size":0}'), Path()).max_batch_size == 0


def test_the_name_must_be_the_models() -> None:
    assert parse_text('name: "m"', "m")
    assert parse_json("{}", "m") == "{}"
    with pytest.raises(InvalidInput, match="for the model 'other'; expected 'm'"):
        parse_json('{"name":"other"}', "m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_sise: 4", "max_batch_sise"),
        ("max_batch_size: 4\ninput { label: 1 }", "line 2, column 9.*label"),
        ('label: "/etc/passwd" }', "label"),
        ("max_batch_size: 99999999999", "out of range"),
        ("input { data_type: TYPE_NOPE }", "TYPE_NOPE"),
        ('name: "a" name: "b"', "name"),
        ("dynamic_batching {} sequence_batching {}", "sequence_batching"),
        ('input [ { name: "x" data_type', "Expected"),
        ("\ud800", "Expected identifier"),
        ('name: "\ud800"', "surrogates"),
    ],
)
def test_text_that_does_not_parse_names_the_place(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"the model configuration does not parse: .*{said}") as caught:
        parse_text(text)
    assert "/etc" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '{"a":1}',
        '{"input":3}',
        '{"input":[null]}',
        '{"max_batch_size":NaN}',
        '{"max_batch_size":true}',
        '{"input":[{"data_type":"FP32"}]}',
        '{"metric_tags":{"a":3}}',
        '{"name":"\\ud800"}',
        '{"a":' * 50_000,
        "{" + " " * MAX_CONFIG_CHARACTERS + "}",
    ],
)
def test_json_that_is_not_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="the model configuration"):
        parse_json(text)


TOKENS = st.sampled_from(
    [
        *pb.ModelConfig.DESCRIPTOR.fields_by_name,
        "{",
        "}",
        "[",
        "]",
        ":",
        '"',
        "'",
        "1",
        "-1",
        "dims",
        "key",
        "value",
        "#",
    ]
)


@given(st.text() | st.lists(TOKENS).map(" ".join))
def test_any_text_parses_or_is_invalid(text: str) -> None:
    for parse in (parse_text, parse_json):
        with contextlib.suppress(InvalidInput):
            canonical = parse(text)
            assert parse_json(canonical) == canonical
            read(canonical, Path("/nonexistent"))


def test_a_refusal_is_one_short_line_whatever_was_stated() -> None:
    with pytest.raises(InvalidInput) as caught:
        options(f'platform: "a\\nb{"c" * 5000}"')
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["TYPE_FP32", "1", "-1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*pb.ModelConfig.DESCRIPTOR.fields_by_name, *pb.ModelInput.DESCRIPTOR.fields_by_name, "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(list(pb.ModelConfig.DESCRIPTOR.fields_by_name)), JSON, max_size=4))
def test_any_json_object_parses_or_is_invalid(document: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidInput):
        read(parse_json(json.dumps(document)), Path("/nonexistent"))


def test_every_supported_setting(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ash\nbirch \n\ncedar\n\n")
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "x.bin").write_bytes(b"\0\1")
    asked = options(
        """
        name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime"
        max_batch_size: 16
        version_policy { latest { num_versions: 2 } }
        input [
          { name: "x" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, -1 ] optional: true },
          { name: "t" data_type: TYPE_STRING dims: 1 reshape { shape: [ ] } }
        ]
        output { name: "y" data_type: TYPE_BF16 dims: 4 label_filename: "names.txt" }
        instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_AUTO } ]
        default_model_filename: "weights.onnx"
        dynamic_batching {
          preferred_batch_size: [ 8, 4, 8 ] max_queue_delay_microseconds: 100 preserve_ordering: true
          priority_levels: 1
          default_queue_policy { max_queue_size: 7 default_timeout_microseconds: 5 allow_timeout_override: true }
        }
        optimization { graph { level: -1 } cuda { graphs: true } eager_batching: true }
        parameters { key: "intra_op_thread_count" value { string_value: "3" } }
        parameters { key: "inter_op_thread_count" value { string_value: "2" } }
        parameters { key: "execution_mode" value { string_value: "1" } }
        parameters { key: "enable_mem_arena" value { string_value: "0" } }
        parameters { key: "enable_mem_pattern" value { string_value: "0" } }
        parameters { key: "session.set_denormal_as_zero" value { string_value: "1" } }
        model_warmup {
          name: "w" batch_size: 2 count: 3
          inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3, 1 ] random_data: true } }
          inputs { key: "t" value { data_type: TYPE_UINT8 dims: 1 input_data_file: "x.bin" } }
        }
        metric_tags { key: "team" value: "a" }
        model_transaction_policy { decoupled: false }
        response_cache { enable: false }
        """,
        tmp_path,
    )
    assert asked == ModelOptions(
        max_batch_size=16,
        inputs=(
            TensorOptions("x", "FP32", (3, -1), optional=True),
            TensorOptions("t", "BYTES", (1,), reshape=()),
        ),
        outputs=(TensorOptions("y", "BF16", (4,), labels=("ash", "birch", "", "cedar")),),
        version_policy=VersionPolicy("latest", 2),
        filename="weights.onnx",
        instances=3,
        session=SessionOptions(3, 2, True, False, False, -1, (("session.set_denormal_as_zero", "1"),)),
        queue=QueuePolicy(7, 5000),
        asks_for_batching=True,
        preferred_batch_sizes=(4, 8),
        max_queue_delay_ns=100_000,
        warmup=(
            WarmupSample(
                "w",
                (
                    WarmupInput("t", "UINT8", (1,), data=b"\0\1"),
                    WarmupInput("x", "FP32", (3, 1), random=True),
                ),
                2,
                3,
            ),
        ),
        metric_tags=(("team", "a"),),
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", VersionPolicy()),
        ("version_policy {}", VersionPolicy()),
        ("version_policy { all {} }", VersionPolicy()),
        ("version_policy { latest {} }", VersionPolicy("latest", 1)),
        ("version_policy { specific { versions: [ 1, 3 ] } }", VersionPolicy("specific", specific=("1", "3"))),
    ],
)
def test_version_policies_are_read(text: str, policy: VersionPolicy) -> None:
    assert options(text).version_policy == policy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('platform: "tensorflow_savedmodel"', "platform 'tensorflow_savedmodel' .*expected 'onnxruntime_onnx'"),
        ('backend: "python"', "backend 'python' .*expected 'onnxruntime'"),
        ('runtime: "model.py"', "runtime 'model.py'"),
        ("max_batch_size: -1", "max_batch_size is -1"),
        ("version_policy { specific {} }", "no versions"),
        ("input { data_type: TYPE_FP32 }", "an input is stated without a name"),
        ('input { name: "x" dims: 1 }', "input 'x' is stated without a known data_type"),
        ('input { name: "x" data_type: TYPE_FP32 dims: -2 }', r"input 'x' .*impossible dims \[-2\]"),
        ('output { name: "y" data_type: TYPE_FP32 dims: 0 }', r"output 'y' .*impossible dims \[0\]"),
        ('input { name: "x" data_type: TYPE_FP32 is_shape_tensor: true }', "input 'x' states is_shape_tensor"),
        ('input { name: "x" data_type: TYPE_FP32 allow_ragged_batch: true }', "allow_ragged_batch"),
        ('output { name: "y" data_type: TYPE_FP32 is_non_linear_format_io: true }', "is_non_linear_format_io"),
        ('output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "no.txt" }', "label file .*'y' is missing"),
        ("instance_group { kind: KIND_GPU }", "GPU"),
        ("instance_group { gpus: 0 }", "GPU"),
        ("instance_group { kind: KIND_MODEL }", "KIND_CPU"),
        ("instance_group { count: -1 }", "count -1"),
        ('instance_group { host_policy: "a" }', "host_policy"),
        ("instance_group { passive: true }", "passive"),
        ("instance_group { rate_limiter { priority: 1 } }", "rate_limiter"),
        ('default_model_filename: "../other.onnx"', "default_model_filename"),
        ('default_model_filename: ".."', "default_model_filename"),
        ("dynamic_batching { priority_levels: 2 }", "priority_levels"),
        ("dynamic_batching { priority_queue_policy { key: 1 value {} } }", "priority_queue_policy"),
        ("dynamic_batching { default_queue_policy { timeout_action: DELAY } }", "DELAY"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }", "preferred_batch_size"),
        ("dynamic_batching { preferred_batch_size: 0 }", "preferred_batch_size"),
        ("sequence_batching {}", "sequence_batching"),
        ("ensemble_scheduling {}", "ensemble_scheduling"),
        ("model_transaction_policy { decoupled: true }", "decoupled"),
        ("batch_input { }", "batch_input"),
        ("batch_output { }", "batch_output"),
        ('model_operations { op_library_filename: "x.so" }', "op_library_filename"),
        ("model_repository_agents { agents {} }", "model_repository_agents"),
        ("response_cache { enable: true }", "response_cache"),
        ("model_metrics { metric_control {} }", "model_metrics"),
        ("optimization { graph { level: 3 } }", "level is 3"),
        ('optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }', "gpu_execution"),
        (accelerated('name: "onednn"'), "'onednn' is not offered .* expected 'openvino'"),
        (accelerated(""), "cpu_execution_accelerator '' is not offered"),
        (accelerated('name: "openvino" parameters { key: "num_streams" }'), "the parameter 'num_streams'; .* none"),
        (
            accelerated('name: "openvino"') + 'parameters { key: "execution_mode" value { string_value: "1" } }',
            "'execution_mode' has no effect with cpu_execution_accelerator",
        ),
        (
            accelerated('name: "openvino"') + 'parameters { key: "extensions" value { string_value: "true" } }',
            "'extensions' has no effect",
        ),
        (
            accelerated('name: "openvino"')
            + 'parameters { key: "session.set_denormal_as_zero" value { string_value: "1" } }',
            "'session.set_denormal_as_zero' has no effect",
        ),
        ('parameters { key: "intra_op_thread_count" value { string_value: "many" } }', "'intra_op_thread_count'"),
        ('parameters { key: "intra_op_thread_count" value { string_value: "-1" } }', "0 to 1024"),
        ('parameters { key: "execution_mode" value { string_value: "2" } }', "'execution_mode'"),
        ('parameters { key: "intra_op_threads" value { string_value: "2" } }', "'intra_op_threads' is not known"),
        ('parameters { key: "session.model_external_initializers_file_folder_path" }', "not known"),
        ("model_warmup { count: 1000000 }", "at most 10000"),
        ('model_warmup { name: "w" inputs { key: "x" value { data_type: TYPE_FP32 } } }', "'x' .*'w' states no data"),
        ('model_warmup { inputs { key: "x" value { dims: -1 zero_data: true } } }', "free dimension"),
        ('model_warmup { inputs { key: "x" value { zero_data: true } } }', "known data_type"),
        ('model_warmup { inputs { key: "x" value { input_data_file: "../../x" } } }', "inside the model's folder"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        options(text)
    assert "\n" not in str(caught.value)
    assert "nonexistent" not in str(caught.value)


def test_a_full_description_of_a_stated_model() -> None:
    stated = parse_text(
        """
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 2, 3 ] reshape { shape: 6 } }
        output { name: "y" data_type: TYPE_STRING dims: 4 label_filename: "labels.txt" }
        instance_group { count: 3 kind: KIND_CPU }
        version_policy { latest {} }
        parameters { key: "execution_mode" value { string_value: "0" } }
        """
    )
    signature = Signature(
        (TensorSpec("x", "FP32", (-1, 2, 3), graph_shape=(-1, 6)),), (TensorSpec("y", "BYTES", (-1, 4)),), True, 8
    )
    asked = ModelOptions(max_batch_size=8, instances=3, version_policy=VersionPolicy("latest", 1))
    config = describe("m", asked, signature, SHARED, stated)
    assert (config["name"], config["platform"], config["backend"]) == ("m", "onnxruntime_onnx", "onnxruntime")
    assert config["max_batch_size"] == 8
    assert config["input"] == [
        {
            "name": "x",
            "data_type": "TYPE_FP32",
            "format": "FORMAT_NCHW",
            "dims": [2, 3],
            "reshape": {"shape": [6]},
            "is_shape_tensor": False,
            "allow_ragged_batch": False,
            "optional": False,
            "is_non_linear_format_io": False,
        }
    ]
    assert config["output"][0]["data_type"] == "TYPE_STRING"
    assert config["output"][0]["label_filename"] == "labels.txt"
    assert config["instance_group"][0]["count"] == 3
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["parameters"] == {
        "batching": {"string_value": "requests share runs: its graph proves that rows are independent"},
        "execution_mode": {"string_value": "0"},
    }
    assert "dynamic_batching" in config
    assert "sequence_batching" not in config


def test_derived_batching_is_described_with_a_bound() -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, 30)),), (TensorSpec("y", "INT64", (-1,)),), True)
    config = describe("m", ModelOptions(), signature, SHARED, "")
    assert config["max_batch_size"] == 1024
    assert "dynamic_batching" in config
    assert (config["input"][0]["dims"], "reshape" in config["input"][0]) == ([30], False)
    assert (config["output"][0]["dims"], config["output"][0]["reshape"]) == ([1], {"shape": []})
    assert config["version_policy"] == {"all": {}}
    assert config["default_model_filename"] == "model.onnx"
    assert config["instance_group"][0]["kind"] == "KIND_CPU"


def test_a_model_that_does_not_batch_is_described_with_full_shapes() -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, 30)),), (TensorSpec("y", "FP64", ()),))
    config = describe("m", ModelOptions(), signature, ALONE, "")
    assert config["max_batch_size"] == 0
    assert config["input"][0]["dims"] == [-1, 30]
    assert (config["output"][0]["dims"], config["output"][0]["reshape"]) == ([1], {"shape": []})
    assert "dynamic_batching" not in config
    assert config["parameters"] == {"batching": {"string_value": "every request runs alone: operator NonZero"}}


def test_an_owner_says_that_rows_are_independent() -> None:
    stated = 'parameters { key: "independent_rows" value: { string_value: "true" } }'
    assert options(stated).independent_rows
    assert options(stated).session == ModelOptions().session
    assert options(stated.replace("true", "false")).independent_rows is False
    assert options("max_batch_size: 8").independent_rows is None
    with pytest.raises(InvalidInput, match="the parameter 'independent_rows' is 'yes'; expected true or false"):
        options(stated.replace("true", "yes"))


def test_a_model_asks_for_the_operators_of_the_extensions() -> None:
    stated = 'parameters { key: "extensions" value: { string_value: "true" } }'
    assert options(stated).session.extensions
    assert not options("").session.extensions
    assert not options(stated).session.entries
    with pytest.raises(InvalidInput, match=r"the parameter 'extensions' is '/lib/x\.so'; expected true or false"):
        options(stated.replace("true", "/lib/x.so"))


def test_a_model_asks_for_an_execution_accelerator() -> None:
    stated = accelerated('name: "openvino"')
    assert options(stated).session == SessionOptions(accelerator="openvino")
    threads = 'parameters { key: "intra_op_thread_count" value { string_value: "2" } }'
    assert options(stated + threads).session == SessionOptions(intra_op_threads=2, accelerator="openvino")
    assert not options("").session.accelerator


@pytest.mark.parametrize(
    ("stated", "asks"),
    [("", False), ("max_batch_size: 1", False), ("max_batch_size: 2", True), ("dynamic_batching { }", True)],
)
def test_what_asks_for_batching(stated: str, asks: bool) -> None:
    assert options(stated).asks_for_batching is asks


@given(st.booleans(), st.lists(st.sampled_from([-1, 1, 7]), max_size=3))
def test_a_description_is_json_and_a_configuration_again(batching: bool, inner: list[int]) -> None:
    shape = ((-1,) if batching else ()) + tuple(inner)
    signature = Signature((TensorSpec("x", "BF16", shape),), (TensorSpec("y", "UINT8", shape),), batching)
    config = describe("m", ModelOptions(), signature, ALONE, "")
    parsed = json_format.ParseDict(json.loads(json.dumps(config)), pb.ModelConfig())
    assert parsed.input[0].dims == (inner or [1])
    read(parse_json(json.dumps(config), "m"), Path("/nonexistent"))
