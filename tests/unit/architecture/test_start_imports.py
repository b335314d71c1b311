"""What a process loads at its start is what it needs then: each library costs every start time and memory."""

import subprocess
import sys

import pytest

UNUSED = {
    "penstock.app.worker": (
        "cryptography",
        "google.protobuf.descriptor_pb2",
        "grpc",
        "grpc_reflection",
        "importlib.metadata",
        "onnx",
        "pydantic",
        "river",
        "sqlalchemy",
        "statistics",
        "tarfile",
        "urllib.request",
    ),
    "penstock.registry.admission.sandbox": ("grpc", "penstock.registry.records", "pydantic", "river", "sqlalchemy"),
    "penstock.app.gateway": (
        "alembic",
        "cryptography",
        "grpc",
        "httpx",
        "onnx",
        "onnxruntime",
        "prometheus_client",
        "pydantic",
        "river",
        "sqlalchemy.dialects.postgresql",
        "starlette",
        "tarfile",
        "yaml",
    ),
}


@pytest.mark.parametrize("module", UNUSED)
@pytest.mark.processes
def test_a_process_starts_without_what_it_may_need_later(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(set({UNUSED[module]!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
