"""The first steps of a gateway leave the environment as it was, and restart only the program they are part of."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.app import launch
from penstock.app.restart import restart_for_heap
from penstock.app.start_failures import StartFailed
from penstock.control.workers.environment import LIBRARY_THREADS, MALLOC, TUNABLES
from tests.harness import PATIENCE_S

PROGRAM = """
import sys
at_start = set(sys.modules)
import os, sys
from penstock.app.restart import restart_for_heap
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), flush=True)
restart_for_heap(sys.argv[2:], sys.argv[1])
print("goes on", {"pathlib", "ctypes", "gc"} & set(sys.modules) - at_start)
"""


def run(setting: Path, *words: str, env: dict[str, str] | None = None) -> list[str]:
    """The lines that a program writes that may restart."""
    variables = {name: value for name, value in os.environ.items() if name != TUNABLES}
    command = [sys.executable, "-c", PROGRAM, str(setting), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=True, env={**variables, **(env or {})}
    )
    return done.stdout.splitlines()


@pytest.fixture
def on_request(tmp_path: Path) -> Path:
    """The setting of a kernel that gives huge pages to those who ask for them."""
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


def test_a_gateway_starts_again_in_its_process_with_the_heap_of_a_worker(on_request: Path) -> None:
    first, second, end = run(on_request, "serve", "folder")
    assert first.endswith(" None")
    assert second == f"{first.removesuffix(' None')} {MALLOC}"
    assert end == "goes on set()"


@pytest.mark.parametrize("text", ["[always] madvise never\n", "always madvise [never]\n", None])
def test_without_huge_pages_on_request_the_start_goes_on(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "enabled").write_text(text)
    assert len(run(tmp_path / "enabled", "serve")) == 2


def test_a_heap_that_the_operator_has_set_stays(on_request: Path) -> None:
    own = "glibc.malloc.arena_max=2"
    first, end = run(on_request, "serve", env={TUNABLES: own})
    assert first.endswith(own)
    assert end.startswith("goes on")


def test_a_program_that_is_not_the_command_does_not_start_again(
    on_request: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TUNABLES, raising=False)
    restart_for_heap(["serve", "not the words of the tests"], str(on_request))
    assert TUNABLES not in os.environ


def test_commands_of_sinks_inherit_none_of_the_settings_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TUNABLES, MALLOC)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    with launch._single_threads():
        assert [os.environ[name] for name in LIBRARY_THREADS] == ["3", "1"]
    with pytest.raises(StartFailed):
        launch.launch(None, {"workers": "none"})
    assert TUNABLES not in os.environ
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert gc.isenabled()


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a container of Vertex AI."""
    for name, value in {"AIP_HTTP_PORT": "8099", "AIP_PREDICT_ROUTE": "/p", "AIP_STORAGE_URI": "gs://bucket/m"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_cloud_is_recognised_where_the_program_has_no_options(
    vertex: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vertex.setenv("PENSTOCK_MODELS", "/models")
    settings = launch._load_settings(None, {"models": None, "http_port": None})
    assert (settings.http_port, settings.dialects, settings.models) == (8099, ("vertex",), ("/models",))
    assert "serving as a container of Vertex AI" in capsys.readouterr().err
    settings = launch._load_settings(None, {"models": None, "http_port": 8000})
    assert (settings.http_port, settings.dialects, settings.host) == (8000, (), "127.0.0.1")
    assert not capsys.readouterr().err


def test_a_cloud_without_a_model_or_with_a_broken_variable_ends_the_start(vertex: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartFailed, match="PENSTOCK_MODELS"):
        launch._load_settings(None, {})
    vertex.setenv("SAGEMAKER_SAFE_PORT_RANGE", "many")
    with pytest.raises(StartFailed, match="SAGEMAKER_SAFE_PORT_RANGE: expected"):
        launch._load_settings(None, {})
