"""An environment of its own for each foreign server, made on first use and kept between runs."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from loadtests.models import cache_folder

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "litserve": ("litserve==0.2.19",),
    "bentoml": ("bentoml==1.4.39",),
    "kserve": ("kserve==0.21.0",),
    "mlserver": ("mlserver==1.7.1",),
    "triton": ("nvidia-pytriton==0.7.0",),
}
"""What each server needs beside ONNX Runtime."""

RUNTIME = "onnxruntime==1.31.1"
FOLDER = "PENSTOCK_PEERS"
"""The variable that names another folder for the environments."""


def python_of(peer: str) -> Path:
    """The interpreter of a server's environment; made where there is none.

    Raises:
        RuntimeError: it could not be filled.
    """
    folder = Path(os.environ.get(FOLDER) or cache_folder() / "peers") / peer
    python = folder / "bin" / "python"
    stamp = folder / "filled"
    if not stamp.exists():
        print(f"setting up {peer} ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        wanted = [*REQUIREMENTS[peer], RUNTIME]
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary", ":all:"]
        if subprocess.run([*pip, *wanted], check=False).returncode:
            raise RuntimeError(f"{peer} could not be installed")
        stamp.touch()
    return python
