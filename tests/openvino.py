"""What tests of the execution accelerator OpenVINO need: its package, and configurations that ask for it."""

from importlib import metadata

import pytest

from penstock.core.options import ModelOptions, SessionOptions


def _is_installed() -> bool:
    try:
        metadata.version("onnxruntime-ep-openvino")
    except metadata.PackageNotFoundError:
        return False
    return True


NEEDS_OPENVINO = pytest.mark.skipif(
    not _is_installed(), reason="penstock[openvino] is not installed; it exists for Linux on x86-64"
)

STATED = 'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }'
"""The part of a config.pbtxt that asks for it."""


def accelerated(max_batch_size: int | None = 8) -> ModelOptions:
    """The options of a model that asks for it."""
    return ModelOptions(max_batch_size=max_batch_size, session=SessionOptions(accelerator="openvino"))
