"""The fields of a model configuration that ONNX Runtime on a CPU supports, and those that are refused.

An unsupported field that would change answers or guarantees is refused with one line; hints for missing hardware are
ignored.
"""

from collections.abc import Callable, Iterable
from typing import Any

from penstock.core.batching import BATCHING
from penstock.core.errors import InvalidInput
from penstock.core.options import (
    ModelOptions,
    QueuePolicy,
    SessionOptions,
    TensorOptions,
    WarmupInput,
    WarmupSample,
)
from penstock.core.tensors import Shape, shape_text
from penstock.core.versions import VersionPolicy
from penstock.proto import model_config_pb2 as pb
from penstock.registry.files import ModelFiles, check_relative

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
MODEL_FILENAME = "model.onnx"

DATATYPES: dict[int, str] = {
    number: "BYTES" if name == "TYPE_STRING" else name.removeprefix("TYPE_")
    for name, number in pb.DataType.items()
    if number != pb.TYPE_INVALID
}
"""The protocol's names of data types, by their number in the configuration."""

INDEPENDENT_ROWS = "independent_rows"
"""The parameter with which an owner states that the answer to a row depends on that row alone."""

EXTENSIONS = "extensions"
"""The parameter with which a model requests the operators of onnxruntime-extensions."""

ACCELERATOR = "cpu_execution_accelerator"
OPENVINO = "openvino"

MAX_THREADS = 1024
MAX_INSTANCES = 1024
MAX_WARMUP_RUNS = 10_000

_RUNTIMES = ("", "onnxruntime", "libtriton_onnxruntime.so")

_SESSION_ENTRIES = frozenset({
    "session.disable_prepacking",
    "session.use_env_allocators",
    "session.use_device_allocator_for_initializers",
    "session.set_denormal_as_zero",
    "session.disable_quant_qdq",
    "session.disable_double_qdq_remover",
    "session.enable_quant_qdq_cleanup",
    "session.disable_aot_function_inlining",
    "session.dynamic_block_base",
    "session.force_spinning_stop",
    "session.intra_op.allow_spinning",
    "session.inter_op.allow_spinning",
    "session.strict_shape_type_inference",
    "session.qdqisint8allowed",
    "optimization.enable_gelu_approximation",
    "mlas.enable_gemm_fastmath_arm64_bfloat16",
})  # fmt: skip
"""Entries that are passed to the runtime: none of them is the name of a file, a folder or a library."""


def options_of(config: pb.ModelConfig, files: ModelFiles) -> ModelOptions:
    """Return the options of a configuration; ``files`` are those that it may reference.

    Raises:
        InvalidInput: it has an option that is not supported.
    """
    _refuse_foreign(config)
    _refuse_unoffered(config)
    if config.max_batch_size < 0:
        raise InvalidInput(f"max_batch_size is {config.max_batch_size}; expected 0 or more")
    batching = config.dynamic_batching
    return ModelOptions(
        max_batch_size=config.max_batch_size if config.HasField("max_batch_size") else None,
        inputs=tuple(_read_input(entry) for entry in config.input),
        outputs=tuple(_read_output(entry, files) for entry in config.output),
        version_policy=_read_policy(config.version_policy),
        filename=_check_filename(config.default_model_filename),
        instances=_count_instances(config.instance_group),
        session=_read_session(config),
        queue=_read_queue(batching),
        asks_for_batching=config.HasField("dynamic_batching") or config.max_batch_size > 1,
        independent_rows=_read_boolean(config, INDEPENDENT_ROWS),
        preferred_batch_sizes=_read_preferred(config),
        max_queue_delay_ns=batching.max_queue_delay_microseconds * 1000,
        warmup=tuple(_read_sample(entry, files) for entry in config.model_warmup),
        metric_tags=tuple(sorted(config.metric_tags.items())),
    )


def _refuse_foreign(config: pb.ModelConfig) -> None:
    for field, value, supported in (
        ("platform", config.platform, ("", PLATFORM)),
        ("backend", config.backend, ("", BACKEND)),
        ("runtime", config.runtime, _RUNTIMES),
    ):
        if value not in supported:
            raise InvalidInput(f"{field} '{value}' cannot be served; expected '{supported[1]}'")


_UNOFFERED: tuple[tuple[str, Callable[[pb.ModelConfig], bool]], ...] = (
    ("sequence_batching", lambda config: config.HasField("sequence_batching")),
    ("ensemble_scheduling", lambda config: config.HasField("ensemble_scheduling")),
    ("model_transaction_policy.decoupled", lambda config: config.model_transaction_policy.decoupled),
    ("batch_input", lambda config: bool(config.batch_input)),
    ("batch_output", lambda config: bool(config.batch_output)),
    ("model_operations.op_library_filename", lambda config: bool(config.model_operations.op_library_filename)),
    ("model_repository_agents", lambda config: bool(config.model_repository_agents.agents)),
    ("response_cache.enable", lambda config: config.response_cache.enable),
    ("model_metrics", lambda config: bool(config.model_metrics.metric_control)),
    (
        "optimization.execution_accelerators.gpu_execution_accelerator",
        lambda config: bool(config.optimization.execution_accelerators.gpu_execution_accelerator),
    ),
    ("dynamic_batching.priority_levels above 1", lambda config: config.dynamic_batching.priority_levels > 1),
    ("dynamic_batching.priority_queue_policy", lambda config: bool(config.dynamic_batching.priority_queue_policy)),
    (
        "timeout_action DELAY",
        lambda config: config.dynamic_batching.default_queue_policy.timeout_action == pb.ModelQueuePolicy.DELAY,
    ),
)


def _refuse_unoffered(config: pb.ModelConfig) -> None:
    for name, is_asked_for in _UNOFFERED:
        if is_asked_for(config):
            raise InvalidInput(f"{name} is not offered by this server; leave it out of the configuration")


def _read_input(entry: pb.ModelInput) -> TensorOptions:
    _refuse_flags(
        f"input '{entry.name}'",
        is_shape_tensor=entry.is_shape_tensor,
        allow_ragged_batch=entry.allow_ragged_batch,
        is_non_linear_format_io=entry.is_non_linear_format_io,
    )
    what = f"input '{entry.name}'"
    return TensorOptions(
        _name("an input", entry.name),
        _read_datatype(what, entry.data_type),
        _read_dims(what, entry.dims),
        _read_dims(what, entry.reshape.shape) if entry.HasField("reshape") else None,
        entry.optional,
    )


def _read_output(entry: pb.ModelOutput, files: ModelFiles) -> TensorOptions:
    what = f"output '{entry.name}'"
    _refuse_flags(what, is_shape_tensor=entry.is_shape_tensor, is_non_linear_format_io=entry.is_non_linear_format_io)
    return TensorOptions(
        _name("an output", entry.name),
        _read_datatype(what, entry.data_type),
        _read_dims(what, entry.dims),
        _read_dims(what, entry.reshape.shape) if entry.HasField("reshape") else None,
        labels=_read_labels(what, entry.label_filename, files),
    )


def _refuse_flags(what: str, **flags: bool) -> None:
    for name, stated in flags.items():
        if stated:
            raise InvalidInput(f"{what} states {name}, which this server does not offer")


def _name(what: str, name: str) -> str:
    if not name:
        raise InvalidInput(f"{what} is stated without a name")
    return name


def _read_datatype(what: str, number: int) -> str:
    try:
        return DATATYPES[number]
    except KeyError:
        raise InvalidInput(f"{what} is stated without a known data_type; expected one such as TYPE_FP32") from None


def _read_dims(what: str, dims: Iterable[int], smallest: int = 1) -> Shape:
    shape = tuple(dims)
    if any(dim < smallest and dim != -1 for dim in shape):
        raise InvalidInput(f"{what} states the impossible dims {shape_text(shape)}")
    return shape


def _read_labels(what: str, filename: str, files: ModelFiles) -> tuple[str, ...]:
    if not filename:
        return ()
    file = f"the label file of {what}"
    return tuple(line.strip() for line in files.text(filename, file).rstrip().splitlines())


def _read_policy(policy: pb.ModelVersionPolicy) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "latest":
        return VersionPolicy("latest", policy.latest.num_versions or 1)
    if choice == "specific":
        if not policy.specific.versions:
            raise InvalidInput("version_policy specific states no versions")
        return VersionPolicy("specific", specific=tuple(map(str, policy.specific.versions)))
    return VersionPolicy()


def _check_filename(name: str) -> str:
    if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise InvalidInput("default_model_filename must be a plain name without a folder")
    return name or MODEL_FILENAME


def _count_instances(groups: Iterable[pb.ModelInstanceGroup]) -> int:
    total = 0
    for group in groups:
        if group.kind == pb.ModelInstanceGroup.KIND_GPU or group.gpus:
            raise InvalidInput("instance_group asks for a GPU; this server runs models on the processor (KIND_CPU)")
        if group.kind not in (pb.ModelInstanceGroup.KIND_AUTO, pb.ModelInstanceGroup.KIND_CPU):
            raise InvalidInput("instance_group states a kind that cannot be served; expected KIND_CPU")
        for field in ("rate_limiter", "secondary_devices", "profile", "passive", "host_policy"):
            if getattr(group, field) and (field != "rate_limiter" or group.rate_limiter.ByteSize()):
                raise InvalidInput(f"instance_group states {field}, which this server does not offer")
        if not 0 <= group.count <= MAX_INSTANCES:
            raise InvalidInput(f"instance_group has the count {group.count}; expected 1 to {MAX_INSTANCES}")
        total += group.count or 1
    return min(total, MAX_INSTANCES) or 1


def _read_queue(batching: pb.ModelDynamicBatching) -> QueuePolicy:
    policy = batching.default_queue_policy
    return QueuePolicy(policy.max_queue_size, policy.default_timeout_microseconds * 1000)


def _read_preferred(config: pb.ModelConfig) -> tuple[int, ...]:
    sizes = tuple(sorted(set(config.dynamic_batching.preferred_batch_size)))
    largest = config.max_batch_size
    if any(size < 1 or (largest and size > largest) for size in sizes):
        raise InvalidInput(f"preferred_batch_size {list(sizes)} must lie between 1 and max_batch_size")
    return sizes


def _read_session(config: pb.ModelConfig) -> SessionOptions:
    level = config.optimization.graph.level
    if level not in (-1, 0, 1, 2):
        raise InvalidInput(f"optimization.graph.level is {level}; expected -1, 0, 1 or 2")
    own = (INDEPENDENT_ROWS, EXTENSIONS, BATCHING)  # the last one comes from a description used as a configuration
    stated = {key: parameter.string_value for key, parameter in config.parameters.items() if key not in own}
    options = SessionOptions(
        intra_op_threads=_whole_number("intra_op_thread_count", stated.pop("intra_op_thread_count", "0"), MAX_THREADS)
        or None,
        inter_op_threads=_whole_number("inter_op_thread_count", stated.pop("inter_op_thread_count", "0"), MAX_THREADS)
        or None,
        parallel_execution=_whole_number("execution_mode", stated.pop("execution_mode", "0"), 1) == 1,
        memory_arena=_whole_number("enable_mem_arena", stated.pop("enable_mem_arena", "1"), 1) == 1,
        memory_pattern=_whole_number("enable_mem_pattern", stated.pop("enable_mem_pattern", "1"), 1) == 1,
        graph_level=level or None,
        entries=tuple(sorted(stated.items())),
        extensions=bool(_read_boolean(config, EXTENSIONS)),
        accelerator=_read_accelerator(config.optimization.execution_accelerators),
    )
    for key in sorted(stated.keys() - _SESSION_ENTRIES):
        raise InvalidInput(f"the parameter '{key}' is not known to this server; leave it out of the configuration")
    _check_accelerated(options)
    return options


def _read_accelerator(accelerators: Any) -> str:
    """Return the name of the one execution provider that is asked for, "" for none."""
    entries = list(accelerators.cpu_execution_accelerator)
    for entry in entries:
        if entry.name != OPENVINO:
            raise InvalidInput(f"{ACCELERATOR} '{entry.name}' is not offered by this server; expected '{OPENVINO}'")
        for key in sorted(entry.parameters):
            raise InvalidInput(f"{ACCELERATOR} '{OPENVINO}' has the parameter '{key}'; this server takes none for it")
    return entries[0].name if entries else ""


def _check_accelerated(options: SessionOptions) -> None:
    """Refuse settings of ONNX Runtime's own operators for a graph that others run."""
    stated = [key for key, _ in options.entries]
    if options.extensions:
        stated.append(EXTENSIONS)
    if options.parallel_execution:
        stated.append("execution_mode")
    if options.accelerator and stated:
        raise InvalidInput(f"the parameter '{stated[0]}' has no effect with {ACCELERATOR}; leave one of them out")


def _read_boolean(config: pb.ModelConfig, key: str) -> bool | None:
    """Return the value of a boolean parameter, None without it."""
    if key not in config.parameters:
        return None
    text = config.parameters[key].string_value
    if text not in ("true", "false"):
        raise InvalidInput(f"the parameter '{key}' is '{text}'; expected true or false")
    return text == "true"


def _whole_number(key: str, text: str, largest: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) <= largest):
        raise InvalidInput(f"the parameter '{key}' is '{text}'; expected a whole number from 0 to {largest}")
    return int(text)


def _read_sample(entry: pb.ModelWarmup, files: ModelFiles) -> WarmupSample:
    if entry.count > MAX_WARMUP_RUNS:
        raise InvalidInput(f"the warm-up '{entry.name}' has the count {entry.count}; at most {MAX_WARMUP_RUNS} are run")
    inputs = tuple(_sample_input(entry.name, name, entry.inputs[name], files) for name in sorted(entry.inputs))
    return WarmupSample(entry.name, inputs, entry.batch_size, entry.count or 1)


def _sample_input(sample: str, name: str, entry: pb.ModelWarmup.Input, files: ModelFiles) -> WarmupInput:
    what = f"input '{name}' of the warm-up '{sample}'"
    choice = entry.WhichOneof("input_data_type")
    if choice is None:
        raise InvalidInput(f"{what} states no data; expected zero_data, random_data or input_data_file")
    dims = _read_dims(what, entry.dims, smallest=0)
    if -1 in dims:
        raise InvalidInput(f"{what} has a free dimension in {shape_text(dims)}; expected a full shape")
    data = None
    if choice == "input_data_file":
        file = f"the data file of {what}"
        check_relative(entry.input_data_file, file)
        data = files.data(f"warmup/{entry.input_data_file}", file)
    return WarmupInput(name, _read_datatype(what, entry.data_type), dims, entry.random_data, data)
