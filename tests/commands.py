"""Runs `penstock` commands in forks of a process that has imported what they need: imports are paid for once."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from penstock import cli
from penstock.control.calls import blocking
from tests import forks

DEADLINE_FACTOR = "TESTS_DEADLINE_FACTOR"
"""A variable of the environment: by what factor the deadlines of a gateway's calls to its database are longer than for
users, ``forks.SLOWNESS`` by default. Tests of silent neighbours set it to 1."""

PLUGIN = "TESTS_PLUGIN"
"""A variable of the environment: a module of the tests, and the argument for its ``install``, which runs in the process
of the command before the command does."""


class Command:
    """A `penstock` command that runs in a fork; it has the part of ``subprocess.Popen`` that tests use.

    Args:
        arguments: the words after `penstock`.
        environment: its whole environment.
        out, errors: the files that take its output.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], out: Path, errors: Path) -> None:
        self._arguments = tuple(arguments)
        facts = self._arguments, dict(environment), str(out), str(errors), forks.start_server()
        self._process = forks.FORKS.Process(target=_command, args=facts)
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs; -N after signal N."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """The exit code, once it has ended; subprocess.TimeoutExpired when it does not end in time."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._arguments, seconds)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def run(arguments: tuple[str, ...], environment: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, in a process of its own with this environment alone."""
    with TemporaryDirectory() as folder:
        outputs = Path(folder, "stdout"), Path(folder, "stderr")
        command = Command(arguments, environment, *outputs)
        try:
            code = command.wait(seconds)
        except subprocess.TimeoutExpired:
            command.kill()
            command.wait(seconds)
            raise
        out, errors = (path.read_text() if path.exists() else "" for path in outputs)
        return subprocess.CompletedProcess(arguments, code, out, errors)


def _command(arguments: tuple[str, ...], environment: dict[str, str], out: str, errors: str, server: str) -> None:
    for number, path in ((1, out), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    forks.use_server(server)
    blocking.DEADLINE_FACTOR = float(environment.pop(DEADLINE_FACTOR, forks.SLOWNESS))
    if plugin := environment.pop(PLUGIN, ""):
        module, argument = plugin.split(" ", 1)
        import_module(module).install(argument)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["penstock", *arguments]
    cli.main()
