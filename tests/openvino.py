"""What tests of the execution accelerator OpenVINO need: its package, and configurations that ask for it."""

from importlib import metadata
from pathlib import Path

import pytest

from penstock.core.options import ModelOptions, SessionOptions


def _is_installed() -> bool:
    try:
        metadata.version("onnxruntime-ep-openvino")
    except metadata.PackageNotFoundError:
        return False
    return True


HAS_ITS_PROCESSOR = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
"""Whether the processor is one that the package offers: those of its maker."""

IS_INSTALLED = _is_installed()
NEEDS_OPENVINO = pytest.mark.skipif(
    not (IS_INSTALLED and HAS_ITS_PROCESSOR),
    reason="penstock[openvino] is not installed (it exists for Linux on x86-64), or the processor is not Intel's",
)

STATED = 'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }'
"""The part of a config.pbtxt that asks for it."""


def accelerated(max_batch_size: int | None = 8) -> ModelOptions:
    """The options of a model that asks for it."""
    return ModelOptions(max_batch_size=max_batch_size, session=SessionOptions(accelerator="openvino"))
