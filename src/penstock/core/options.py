"""The options of a model that its configuration may set, as plain frozen values."""

from dataclasses import dataclass, field

from penstock.core.tensors import Shape
from penstock.core.versions import VersionPolicy


@dataclass(frozen=True, slots=True)
class TensorOptions:
    """The configuration of one input or output; ``dims`` exclude the batch dimension."""

    name: str
    datatype: str
    dims: Shape
    reshape: Shape | None = None
    optional: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One input of a warm-up sample: zeros, random numbers, or the raw bytes of a data file."""

    name: str
    datatype: str
    dims: Shape
    random: bool = False
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A request to run ``count`` times before a version is ready."""

    name: str
    inputs: tuple[WarmupInput, ...]
    batch_size: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Limits of the queue: entries, and a default time limit in nanoseconds (0 = none)."""

    max_queue_size: int = 0
    default_timeout_ns: int = 0


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """ONNX Runtime settings of a model; ``None`` leaves the choice to Penstock.

    ``extensions`` loads the operators of onnxruntime-extensions. ``accelerator`` names the execution provider that runs
    the graph ("" = ONNX Runtime's own).
    """

    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    parallel_execution: bool = False
    memory_arena: bool = True
    memory_pattern: bool = True
    graph_level: int | None = None
    entries: tuple[tuple[str, str], ...] = ()
    extensions: bool = False
    accelerator: str = ""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Everything a ``config.pbtxt`` may decide about a model; the defaults serve a bare ONNX file.

    ``max_batch_size`` None means: derived from the graph. ``config`` is the stated configuration in
    protobuf JSON form, as the protocol's config endpoints show it back. ``asks_for_batching`` says that it has calls
    of several callers share runs, ``independent_rows`` what its owner says of them: that they are right, that they are
    wrong, or nothing (None).
    """

    max_batch_size: int | None = None
    inputs: tuple[TensorOptions, ...] = ()
    outputs: tuple[TensorOptions, ...] = ()
    version_policy: VersionPolicy = field(default_factory=VersionPolicy)
    filename: str = "model.onnx"
    instances: int = 1
    session: SessionOptions = field(default_factory=SessionOptions)
    queue: QueuePolicy = field(default_factory=QueuePolicy)
    asks_for_batching: bool = False
    independent_rows: bool | None = None
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_ns: int = 0
    warmup: tuple[WarmupSample, ...] = ()
    metric_tags: tuple[tuple[str, str], ...] = ()
