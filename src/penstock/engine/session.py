"""ONNX Runtime sessions: opened with explicit thread counts and no spinning, read, run and interrupted."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from penstock.core.errors import Internal
from penstock.core.options import SessionOptions
from penstock.core.signature import LARGEST_ROW, RowForm, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, PLAIN, Array
from penstock.engine import denormals
from penstock.engine.accelerators import add_accelerator, with_elements
from penstock.engine.bound_runner import BoundRunner
from penstock.engine.custom_operators import shared_library
from penstock.engine.denormals import RunSession
from penstock.engine.faults import LoadFailed, load_fault
from penstock.engine.graph import CLASS_LABELS, GraphInterface, GraphTensor, parse_labels

_FATAL = 4
_LOOPS = (b"\x22\x04Loop", b"\x22\x04Scan")
_SCANNED = 1 << 20
_FEW = 1000
_BF16 = 16  # onnx.TensorProto.BFLOAT16
_KINDS = {
    1: "<f4",
    2: "|u1",
    3: "|i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "|b1",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
    16: "<u2",
}
"""NumPy's names of the element types of onnx.TensorProto that have one; BFLOAT16 is its 16 bits."""

_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

ort.set_default_logger_severity(_FATAL)


class RunInterrupt:
    """Lets another thread end a run at its next node; once stopped, it stays stopped."""

    __slots__ = ("run_options",)

    def __init__(self) -> None:
        self.run_options: Any = ort.RunOptions()

    def stop(self) -> None:
        """End the run, now or as soon as it begins."""
        self.run_options.terminate = True

    @property
    def is_stopped(self) -> bool:
        """Whether ``stop`` has been called."""
        return bool(self.run_options.terminate)


UNINTERRUPTED: Final[Any] = ort.RunOptions()
"""The options of runs that nobody interrupts, and that nobody changes. The runtime finds them with a tenth of the
instructions that it spends on ``None``, which it first takes for options of another library."""


def arena_release() -> Any:
    """Return options of a run that computes nothing, and releases unused memory of the session's arena."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    options.terminate = True
    return options


def open_session(path: Path, options: SessionOptions, intra_op_threads: int, runs: int = 1) -> Any:
    """Open a session on the graph at ``path``, on the processor only, with this many threads inside one operator.

    ``runs`` is the number of runs side by side that an accelerator prepares for; ONNX Runtime's own provider takes any.

    Raises:
        LoadFailed: the file is missing, no ONNX graph, or holds what this runtime or machine does not know.
    """
    if not path.exists():
        raise LoadFailed("the model file is missing")
    settings = session_settings(options, intra_op_threads)
    library = shared_library() if options.extensions else ""
    try:
        if library:
            settings.register_custom_ops_library(library)
        if options.accelerator:
            add_accelerator(settings, options, intra_op_threads, runs)
        providers = None if options.accelerator else ["CPUExecutionProvider"]
        with denormals.around_session(options):
            # by path: the runtime maps the file and lets other threads run while it loads
            return ort.InferenceSession(str(path), settings, providers=providers)
    except LoadFailed:
        raise
    except Exception as error:
        raise load_fault(error, path, options.extensions) from error


def contains_loop(path: Path) -> bool:
    """Whether the graph has a Loop or Scan, whose time is decided by its data.

    Looks for the operator's name as the NodeProto field ``op_type`` (4) writes it; weights that happen to hold
    the same bytes make a model look slower to place, never wrong.
    """
    tail = b""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_SCANNED):
            window = tail + chunk
            if _names_loop(window):
                return True
            tail = window[-5:]
    return False


def _names_loop(window: bytes) -> bool:
    """Find the bytes; NumPy releases the GIL while it finds the two bytes before a name of four letters, and few
    positions remain.
    """
    array = np.frombuffer(window, np.uint8)
    places = np.flatnonzero((array[:-1] == 0x22) & (array[1:] == 0x04))
    if places.size > _FEW:
        return any(name in window for name in _LOOPS)
    return any(window[start : start + 6] in _LOOPS for start in places.tolist())


def session_settings(options: SessionOptions, intra_op_threads: int) -> Any:
    """Return the runtime's settings; its logs are off, because every failure is reported as an error."""
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL
    settings.intra_op_num_threads = intra_op_threads
    settings.inter_op_num_threads = options.inter_op_threads or 1
    if options.parallel_execution:
        settings.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    settings.enable_cpu_mem_arena = options.memory_arena
    settings.enable_mem_pattern = options.memory_pattern
    if options.graph_level:
        settings.graph_optimization_level = _GRAPH_LEVELS[options.graph_level]
    # idle threads that spin burnt three cores where one request at a time was running
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    for key, value in options.entries:
        settings.add_session_config_entry(key, value)
    return settings


def read_graph(session: Any) -> GraphInterface:
    """Return the inputs and outputs of the session's graph."""
    return GraphInterface(
        _describe_tensors(session.get_inputs()),
        _describe_tensors(session.get_outputs()),
        _describe_tensors(session.get_overridable_initializers()),
        labels=parse_labels(session.get_modelmeta().custom_metadata_map.get(CLASS_LABELS, "")),
    )


def _describe_tensors(nodes: Sequence[Any]) -> tuple[GraphTensor, ...]:
    return tuple(GraphTensor(node.name, node.type, tuple(node.shape)) for node in nodes)


def choose_runner(session: Any, options: SessionOptions) -> RunSession:
    """Return the fastest function that runs the session as its options require.

    Raises:
        LoadFailed: the graph mixes BYTES inputs with BF16 outputs, which the runtime's Python form cannot run.
    """
    return with_elements(denormals.as_asked(_plain_runner(session), options), options)


def _plain_runner(session: Any) -> RunSession:
    graph = read_graph(session)
    wide_inputs = {tensor.name for tensor in graph.inputs + graph.overridable if tensor.type == "tensor(bfloat16)"}
    wide_outputs = {tensor.name for tensor in graph.outputs if tensor.type == "tensor(bfloat16)"}
    if wide_outputs and any(tensor.type == "tensor(string)" for tensor in graph.inputs):
        raise LoadFailed("the graph takes BYTES and returns BF16; ONNX Runtime cannot run the two together from Python")
    if wide_inputs or wide_outputs:
        return _BfloatRunner(session, wide_inputs, wide_outputs)
    # The bound method below `InferenceSession.run` skips its checks of names, which `Signature.bind` has
    # done: 3.5 instead of 4.4 µs for an Identity over 30 numbers, the same results.
    run: RunSession = session._sess.run  # noqa: SLF001
    return run


def bound_runner(
    session: Any, options: SessionOptions, form: RowForm, outputs: Sequence[TensorSpec], rows: int = 1
) -> BoundRunner | None:
    """Return what runs the session on so many rows of the only input again and again; None where an output has no fixed
    size, or where the options need more than the runtime's plain run."""
    if options.accelerator or denormals.is_requested(options) or not all(map(_is_fixed, outputs)):
        return None
    memory = np.zeros((rows, *form.shape[1:]), form.dtype)
    results: list[Array] = [np.zeros((rows, *spec.shape[1:]), NUMPY_TYPES[spec.datatype]) for spec in outputs]
    binding = session.io_binding()
    binding.bind_input(form.name, "cpu", 0, memory.dtype.type, memory.shape, memory.ctypes.data)
    for spec, array in zip(outputs, results, strict=True):
        binding.bind_output(spec.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    run = session._sess.run_with_iobinding  # noqa: SLF001 - without the wrapper's checks, as in ``_plain_runner``
    return BoundRunner(run, binding._iobinding, memory.data.cast("B"), results)  # noqa: SLF001


def _is_fixed(spec: TensorSpec) -> bool:
    """Whether a row of an output has a size of its own, and numbers that the runtime writes as NumPy reads them."""
    dims = spec.shape[1:]
    return min(dims, default=1) > 0 and prod(dims) <= LARGEST_ROW and spec.datatype in PLAIN and not spec.graph_shape


class _BfloatRunner:
    """Runs graphs with BF16 tensors, which have no NumPy type: they are passed as 16-bit numbers."""

    def __init__(self, session: Any, inputs: set[str], outputs: set[str]) -> None:
        self._session = session
        self._inputs = inputs
        self._outputs = outputs

    def __call__(self, outputs: Sequence[str], feeds: dict[str, Array], run_options: Any) -> list[Array]:
        values = {name: self._value(name, array) for name, array in feeds.items()}
        if self._outputs.isdisjoint(outputs):
            results: list[Array] = self._session._sess.run(outputs, values, run_options)  # noqa: SLF001
            return results
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                values[name] = ort.OrtValue.ortvalue_from_numpy(value)
        return [_make_array(value) for value in self._session.run_with_ort_values(outputs, values, run_options)]

    def _value(self, name: str, array: Array) -> Any:
        return _make_value(array, is_wide=True) if name in self._inputs else array


def large_runner(session: Any, options: SessionOptions) -> RunSession | None:
    """Return a function that runs the session without a copy of the outputs: the runtime would copy them with the GIL
    held, which stops the event loop for a millisecond a megabyte. It costs tens of microseconds more than ``runner``;
    None for graphs that take BYTES, which have no such form.

    Raises:
        LoadFailed: as ``runner``.
    """
    graph = read_graph(session)
    inputs = graph.inputs + graph.overridable
    if any(tensor.type == "tensor(string)" for tensor in inputs):
        return None
    wide = {tensor.name for tensor in inputs if tensor.type == "tensor(bfloat16)"}

    def run(outputs: Sequence[str], feeds: dict[str, Array], run_options: Any) -> list[Array]:
        values = {name: _make_value(array, name in wide) for name, array in feeds.items()}
        return [_make_array(value) for value in session.run_with_ort_values(outputs, values, run_options)]

    return with_elements(denormals.as_asked(run, options), options)


def _make_value(array: Array, is_wide: bool) -> Any:
    # the runtime reads the memory as it lies and takes no notice of strides
    contiguous = array if array.flags.c_contiguous else array.copy()
    if is_wide:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(contiguous, _BF16)
    return ort.OrtValue.ortvalue_from_numpy(contiguous)


class RuntimeMemory:
    """The memory of a runtime's value as NumPy uses it; an array made from it keeps the value."""

    def __init__(self, value: Any, shape: tuple[int, ...], kind: str) -> None:
        self._value = value
        self.__array_interface__ = {"data": (value.data_ptr(), False), "shape": shape, "typestr": kind, "version": 3}


def _make_array(value: Any) -> Array:
    """Return a value as an array over its own memory; texts are copied."""
    kind = _KINDS.get(value.element_type())
    if kind is None:
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    return np.asarray(RuntimeMemory(value, shape, kind)) if 0 not in shape else np.empty(shape, kind)


def closed_run(_outputs: Sequence[str], _feeds: dict[str, Array], _run_options: Any) -> list[Array]:
    """Replaces the run of a closed model: raises."""
    raise Internal("the model has been unloaded")
