"""What a process loads at its start is what it needs then: each library costs every start time and memory."""

import os
import subprocess
import sys
from pathlib import Path

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


STARTS = {
    "gateway": "from penstock.app.launch import launch; launch(None, {'http_port': 0})",
    "sandbox": "from penstock.registry.admission.sandbox_program import main; main()",
}

COMPILED = """
import os, sys
from penstock.engine.method_cache import MethodCache
executed, stored, code = [], [], MethodCache._code
def end(cache):
    print(sum("__create_fn__" in names for names in executed), len(stored), flush=True)
    os._exit(0)
MethodCache._code = lambda cache, source: stored.append(source) or code(cache, source)
MethodCache.save = end
sys.addaudithook(lambda event, values: executed.append(values[0].co_names) if event == "exec" else None)
"""


@pytest.mark.parametrize("program", STARTS)
@pytest.mark.processes
def test_the_bytecode_of_every_generated_method_is_stored(program: str, tmp_path: Path) -> None:
    variables = {**os.environ, "PENSTOCK_HOME": str(tmp_path)}
    command = [sys.executable, "-c", COMPILED + STARTS[program]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=variables)
    executed, stored = map(int, done.stdout.split())
    assert executed == stored > 0
