"""Runs `penstock` commands in forks of a process that has imported what they need: imports are paid for once."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from penstock import cli

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [*(f"penstock.cli.{module}" for module in ("by_gateway", "by_hand", *cli.VERBS.values())), "onnx"]
)


def run(arguments: tuple[str, ...], environment: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, in a process of its own with this environment alone."""
    with TemporaryDirectory() as folder:
        outputs = Path(folder, "stdout"), Path(folder, "stderr")
        process = FORKS.Process(target=_command, args=(arguments, dict(environment), *map(str, outputs)))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, seconds)
        out, errors = (path.read_text() if path.exists() else "" for path in outputs)
        return subprocess.CompletedProcess(arguments, process.exitcode, out, errors)


def _command(arguments: tuple[str, ...], environment: dict[str, str], out: str, errors: str) -> None:
    for number, path in ((1, out), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["penstock", *arguments]
    cli.main()
