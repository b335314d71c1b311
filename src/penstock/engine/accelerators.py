"""Execution providers that run graphs in place of ONNX Runtime's own: OpenVINO, from the plug-in package of its maker.

The package holds a library that ONNX Runtime loads; no other library is ever loaded. OpenVINO prepares kernels for each
shape that it meets, and corrupts memory for some tensors without elements. So it runs a graph only if requests decide
nothing but a small number of rows, at least one.
"""

import ctypes
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from penstock.core.errors import InvalidInput
from penstock.core.options import SessionOptions
from penstock.core.signature import Signature
from penstock.core.tensors import Array
from penstock.engine.denormals import RunSession
from penstock.engine.faults import LoadFailed
from penstock.engine.installed_files import find_file

OPENVINO: Final = "openvino"
PACKAGE: Final = "onnxruntime-ep-openvino"
MOST_SHAPES: Final = 64
"""Maximum numbers of rows: each that occurs keeps kernels of its own in memory until the model is unloaded."""

_LIBRARY = "libonnxruntime_providers_openvino_plugin.so"
_PROCESSOR_LIBRARY = "libopenvino_intel_cpu_plugin.so"
_DEVICE = {"ov_device": "CPU"}
_META = "ov_meta_device"
_registering = threading.Lock()
_libraries: list[str] = []
_devices: list[Any] = []


def add_accelerator(settings: Any, options: SessionOptions, intra_op_threads: int, runs: int) -> None:
    """Have OpenVINO run the graphs of a session on the processor, with as many ``runs`` side by side at most.

    Raises:
        LoadFailed: the package is not installed, or offers no processor here.
    """
    threads = {"INFERENCE_NUM_THREADS": str(intra_op_threads * runs), "NUM_STREAMS": str(runs)}
    # OpenVINO's own choice is BF16 where the processor has it, which keeps three digits
    configuration = {"CPU": {**threads, "INFERENCE_PRECISION_HINT": "f32"}}
    # all of the graph or nothing: admission knows one engine's operators at a time
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings.add_provider_for_devices([_load_device()], {"load_config": json.dumps(configuration)})


def _load_device() -> Any:
    """Return OpenVINO's processor; the first call loads the library, which stays for the life of the process."""
    with _registering:
        if not _devices:
            _devices.append(_register())
        return _devices[0]


def _register() -> Any:
    if not _libraries:
        _libraries.append(_load_library())
    for device in ort.get_ep_devices():
        facts = dict(device.ep_metadata)
        if facts | _DEVICE == facts and _META not in facts:
            return device
    raise LoadFailed(f"{PACKAGE} knows no processor of this machine; leave cpu_execution_accelerator out")


def _load_library() -> str:
    """Have ONNX Runtime load the library, and return its path; it can be loaded once in a process."""
    library = plugin_library()
    _map(library)
    try:
        ort.register_execution_provider_library(OPENVINO, library)
    except Exception as error:
        raise LoadFailed(f"{PACKAGE} does not work with the installed ONNX Runtime; install a newer one") from error
    return library


def _map(library: str) -> None:
    """Map the plug-in and the part of it that computes: a foreign function lets other threads run for the 40 ms that
    this takes, while ONNX Runtime would hold the GIL.
    """
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype = ctypes.c_void_p
    for path in (library, str(Path(library).with_name(_PROCESSOR_LIBRARY))):
        dlopen(os.fsencode(path), os.RTLD_NOW | os.RTLD_LOCAL)  # the runtime reports one that cannot be loaded


def plugin_library() -> str:
    """Return the path of the library in the installed package.

    Raises:
        LoadFailed: the package is not installed.
    """
    library = find_file(PACKAGE, lambda name: name == _LIBRARY)
    if library is None:
        raise LoadFailed(
            f"its configuration asks for the execution accelerator {OPENVINO}, which is not installed; pip install "
            f"'penstock[{OPENVINO}]' (Linux on x86-64)"
        )
    return library


def check_shapes(signature: Signature, options: SessionOptions) -> None:
    """Check that requests decide nothing about the shapes of an accelerated graph but the number of rows, within
    ``MOST_SHAPES``.

    Raises:
        LoadFailed: they do; the message says what to state.
    """
    if not options.accelerator:
        return
    if signature.batching and not 1 <= signature.max_batch_size <= MOST_SHAPES:
        raise LoadFailed(
            f"the execution accelerator {options.accelerator} prepares kernels for each number of rows; state a "
            f"max_batch_size from 1 to {MOST_SHAPES}"
        )
    lead = 1 if signature.batching else 0
    for spec in (*signature.inputs, *signature.outputs):
        if spec.datatype == "BYTES":
            raise LoadFailed(f"the execution accelerator {options.accelerator} runs on numbers; '{spec.name}' is text")
        if any(dim < 0 for dim in spec.shape[lead:]):
            raise LoadFailed(
                f"the execution accelerator {options.accelerator} needs fixed dimensions beside the rows; those of "
                f"'{spec.name}' are not: state them in config.pbtxt, or export the model with fixed ones"
            )


def with_elements(run: RunSession, options: SessionOptions) -> RunSession:
    """Return the same run; for an accelerated graph, it refuses tensors without elements."""
    if not options.accelerator:
        return run

    def checked(outputs: Sequence[str], feeds: dict[str, Array], run_options: Any) -> list[Array]:
        for name, array in feeds.items():
            if not array.size:
                raise InvalidInput(
                    f"input '{name}' is empty; a model with an execution accelerator needs at least one row"
                )
        return run(outputs, feeds, run_options)

    return checked
