"""Terminals in a network namespace of their own: pages use the ports that readers use, and tests do not meet."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.docs.pages import INTERRUPT, Command, agrees

PATIENCE_SECONDS = 900.0
"""How long a command may take, however busy the machine."""

_LOOPBACK_UP = """
import fcntl, socket, struct, sys, time
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
print("up", flush=True)
sys.stdin.read()
"""


@contextmanager
def network() -> Iterator[list[str]]:
    """A network namespace with nothing but a loopback; the command that enters it."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    holder = subprocess.Popen(
        [*unshare, sys.executable, "-c", _LOOPBACK_UP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin and holder.stdout
    try:
        assert holder.stdout.readline() == "up\n", "no network namespace"
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        yield ["nsenter", f"--target={holder.pid}", *user, "--net"]
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(PATIENCE_SECONDS)


def namespaces_missing() -> str:
    """Why this machine has no network namespaces for us, or nothing."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return "unshare and nsenter (util-linux) are not installed"
    try:
        with network():
            return ""
    except AssertionError:
        return "this machine allows no network namespaces"


class Terminal:
    """A shell whose output is read as it comes; commands run one after the other."""

    def __init__(self, enter: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            [*enter, "bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._count = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._shell.stdout
        for line in self._shell.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def run(self, command: Command, stays: bool) -> tuple[list[str], int | None]:
        """What a command printed and its exit code; None for one that ``stays`` and has printed what was expected."""
        with self._changed:
            self._lines.clear()
        if command.text == INTERRUPT:
            os.killpg(self._shell.pid, signal.SIGINT)
        else:
            self._type(command.text)
        mark, deadline = f"__done_{self._count}__", time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while True:
                for index, line in enumerate(self._lines):
                    if line.startswith(mark):
                        return self._lines[:index], int(line.split()[1])
                if stays and agrees((*command.printed, "..."), self._lines):
                    return list(self._lines), None
                if self._ended or not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return list(self._lines), -1

    def _type(self, text: str) -> None:
        assert self._shell.stdin
        self._count += 1
        self._shell.stdin.write(f"{{ {text}\n}} < /dev/null\nprintf '\\n%s %d\\n' __done_{self._count}__ $?\n")
        self._shell.stdin.flush()

    def close(self) -> None:
        """End the shell and what it started; its gateways get the time to drain."""
        os.killpg(self._shell.pid, signal.SIGTERM)
        assert self._shell.stdin
        self._shell.stdin.close()
        try:
            self._shell.wait(1)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert self._shell.stdout
        self._shell.stdout.close()


class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    def __init__(
        self, enter: list[str], folder: Path, environment: Mapping[str, str], programs: Sequence[Path] = ()
    ) -> None:
        """``programs`` are folders of programs that go before those of this environment."""
        home = folder / ".home"
        home.mkdir()
        path = ":".join(map(str, (*programs, Path(sys.executable).parent, os.environ["PATH"])))
        settings = {"PENSTOCK_WATCH__SETTLE_SECONDS": "0.2"}  # nobody else writes to the folders of a page
        shell = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "COLUMNS": "120"}
        self._environment = {**shell, **settings, **environment}
        self._enter, self.folder = enter, folder
        self._terminals: dict[str, Terminal] = {}

    def run(self, command: Command) -> tuple[list[str], int | None]:
        """Do one command in its terminal."""
        if command.terminal not in self._terminals:
            self._terminals[command.terminal] = Terminal(self._enter, self.folder, self._environment)
        return self._terminals[command.terminal].run(command, command.stays)

    def close(self) -> None:
        """Close all terminals, the last one first."""
        with ExitStack() as stack:
            for terminal in self._terminals.values():
                stack.callback(terminal.close)


def failure_text(command: Command, printed: list[str], code: int | None) -> str:
    """What a failed step is reported with: the command, its exit code and its last lines."""
    lines = "\n    ".join(printed[-60:])
    return f"line {command.line}: {shlex.quote(command.text)} ended with {code} and printed\n    {lines}"
