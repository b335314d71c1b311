"""Programs in forks of a process that has imported what they need: imports are paid for once by each process of tests.

A server, which is such a fork itself, takes callers on a Unix socket: the name of a program, its arguments,
environment, folder and umask, and its open files. It answers with the number of the process and, when that has ended,
with its exit code. Signals are passed on, and a program whose caller is gone is ended, with all that it has started.
"""

import atexit
import ctypes
import gc
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.process import parent_process
from pathlib import Path
from typing import BinaryIO, NoReturn

from penstock import cli
from penstock.control.calls import blocking
from penstock.engine.confinement import child
from penstock.engine.confinement import program as confined_program
from penstock.engine.confinement.child import clean_environment
from penstock.registry.admission import examiner, sandbox
from tests.budgets import THOROUGH
from tests.remembered import RememberingSandbox

SLOWNESS = 4.0
"""By what factor the deadlines of a gateway's calls to its database are longer than for users, unless a test states
another one: a read takes seconds on a busy machine."""

DELAYED = (
    "encodings.idna",
    "penstock.api.admin.server",
    "penstock.api.admin.traffic",
    "penstock.api.console.build",
    "penstock.app.gateway",
    "penstock.app.launch",
    "penstock.app.restart",
    "penstock.app.worker",
    "penstock.cli.connection_options",
    "penstock.cli.local_registry",
    "penstock.cli.start",
    "penstock.cli.upload",
    "penstock.config.platforms",
    "penstock.config.settings",
    "penstock.registry.admission.inspection",
    "penstock.registry.admission.sandbox",
    "penstock.registry.admission.sandbox_program",
    "prometheus_client.openmetrics.exposition",
    "tests.commands",
    "tests.preloaded",
)
"""What programs import when they need it, and nearly all of them do."""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "tests.single_threads",
        *(f"penstock.cli.{module}" for module in cli.VERBS.values()),
        *DELAYED,
        "alembic.command",
        "tests.frozen",
    ]
)
assert all(map(find_spec, DELAYED)), "a module that was moved is imported by each program anew"

CALLER = """#!{python} -IS
import json, os, signal, socket, struct, sys

program, arguments = {program!r}, sys.argv[1:]
if program == "python" and not (arguments and arguments[0].endswith(".py")):
    os.execv({python!r}, [{python!r}, *arguments])
umask = os.umask(0)
os.umask(umask)
files = [0, 1, 2]
for kind, own in {namespaces!r}.items():
    if os.readlink(f"/proc/self/ns/{{kind}}") != own:
        files.append(os.open(f"/proc/self/ns/{{kind}}", os.O_RDONLY))
content = json.dumps([program, arguments, dict(os.environ), os.getcwd(), umask]).encode()
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [struct.pack("I", len(content))], files)
server.sendall(content)
server.recv(4, socket.MSG_WAITALL)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
code = struct.unpack("i", server.recv(4) or struct.pack("i", 1))[0]
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""A program for callers that are not of Python; they may be in other namespaces than the server. `python` runs files in
forks, and all else itself."""

OF_SCRIPTS = ("onnx", "pyarrow.parquet", "skl2onnx", "sklearn.datasets", "sklearn.linear_model", "sklearn.tree")
"""What files on pages of the documents import to train a model."""

CONFINED = "confined"
"""The name of a program that confines itself, as `engine/confinement/program.py` does."""

LENGTH = struct.Struct("I")
NUMBER = struct.Struct("i")


@cache
def start_server(*modules: str) -> str:
    """Start a server of this process of tests, which imports modules for its first caller; its address."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-forks-"))
    atexit.register(_remove, folder, os.getpid())
    address = str(folder / "socket")
    _write_caller(Path(folder, CONFINED), address)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        FORKS.Process(target=_serve, args=(listener, address, modules), daemon=True).start()
    return address


def _remove(folder: Path, owner: int) -> None:
    """Remove the folder of a server at the end of the process that has started it, and not of its forks."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def caller_folder() -> Path:
    """The folder of programs `penstock` and `python` that run in forks."""
    folder = Path(start_server()).with_name("programs")
    folder.mkdir()
    _write_caller(folder / "penstock", start_server())
    _write_caller(folder / "python", start_server(*OF_SCRIPTS))
    return folder


def _write_caller(program: Path, address: str) -> None:
    own = {kind: str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("user", "net")}
    program.write_text(CALLER.format(program=program.name, python=sys.executable, namespaces=own, address=address))
    program.chmod(0o755)


class ForkedSandbox:
    """A sandbox of admission; it has the part of ``subprocess.Popen`` that examiners use."""

    def __init__(self, address: str) -> None:
        orders, self.stdin = _open_pipe()
        self.stdout, answers = _open_pipe()
        self.returncode: int | None = None
        self._server = socket.socket(socket.AF_UNIX)
        with orders, answers, Path(os.devnull).open("wb") as nowhere:
            self._server.connect(address)
            call(self._server, "sandbox", clean_environment(), [orders, answers, nowhere])
        [self.pid] = NUMBER.unpack(self._server.recv(4, socket.MSG_WAITALL))

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        if self.returncode is None:
            [self.returncode] = NUMBER.unpack(self._server.recv(4, socket.MSG_WAITALL))
            self._server.close()
        return self.returncode


def _open_pipe() -> tuple[BinaryIO, BinaryIO]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0)


def call(server: socket.socket, program: str, environment: Mapping[str, str], files: Sequence[BinaryIO]) -> None:
    """Ask a server to run a program."""
    content = json.dumps([program, [], dict(environment), str(Path.cwd()), 0o022]).encode()
    socket.send_fds(server, [LENGTH.pack(len(content))], [file.fileno() for file in files])
    server.sendall(content)


def use_server(address: str) -> None:
    """Let this process start its sandboxes, and what it runs confined, by a server."""
    vars(examiner)["_spawn"] = partial(ForkedSandbox, address)
    if not THOROUGH:
        vars(sandbox)["Sandbox"] = partial(RememberingSandbox, Path(address).with_name("admitted"))
    vars(child)["_program_command"] = lambda: [str(Path(address).with_name(CONFINED))]


def _serve(listener: socket.socket, address: str, modules: Sequence[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that attend to callers
    tests = parent_process()
    assert tests is not None
    while tests.sentinel not in select.select([listener.fileno(), tests.sentinel], [], [])[0]:
        connection, _ = listener.accept()
        _import(modules)
        if not os.fork():
            listener.close()
            _attend(connection, address)
        connection.close()
    shutil.rmtree(Path(address).parent, ignore_errors=True)  # where the process of tests has been killed


def _import(modules: Sequence[str]) -> None:
    """Import modules, and let no fork look for garbage in them."""
    for module in modules:
        import_module(module)
    gc.freeze()


def _attend(connection: socket.socket, address: str) -> NoReturn:
    """Run the program of one caller, in a process of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, files, *_ = socket.recv_fds(connection, LENGTH.size, 5)
    program, *facts = json.loads(connection.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL))
    number = os.fork()
    if not number:
        connection.close()
        _lead_group(0)
        _become(files, *facts)
        use_server(address)
        PROGRAMS[program]()
        sys.exit()
    _lead_group(number)  # whoever comes first
    for file in files:
        os.close(file)
    connection.sendall(NUMBER.pack(number))
    _watch(connection, number)
    os._exit(0)


def _lead_group(number: int) -> None:
    with suppress(OSError):  # it has one, or has ended
        os.setpgid(number, number)


def _watch(connection: socket.socket, number: int) -> None:
    """Pass the signals of the caller on until the program ends, and then how it did."""
    ended = os.pidfd_open(number)
    while ended not in select.select([connection.fileno(), ended], [], [])[0]:
        signals = connection.recv(16)
        for one in signals:
            os.kill(number, one)
        if not signals:
            os.killpg(number, signal.SIGKILL)
            return
    with suppress(OSError):  # the caller has ended too
        connection.sendall(NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])))


def _become(files: Sequence[int], arguments: list[str], environment: dict[str, str], folder: str, umask: int) -> None:
    """Take the files of the caller, the first three, its namespaces, the others, and all else that it has stated."""
    for number, file in enumerate(files):
        if number < 3:
            os.dup2(file, number)
        elif ctypes.CDLL(None, use_errno=True).setns(file, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(file)
    os.chdir(folder)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    blocking.DEADLINE_FACTOR = SLOWNESS
    sys.argv = ["penstock", *arguments]
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(":"))


def _run_sandbox() -> None:
    from penstock.registry.admission import sandbox_program

    sandbox_program.main()


def _run_confined() -> None:
    """Confine this process, and run the module that the arguments name."""
    sys.exit(confined_program.main(sys.argv[1], sys.argv[2], sys.argv[3:]))


def _run_script() -> None:
    """Run the file that the first argument names."""
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent.resolve()))
    runpy.run_path(sys.argv[0], run_name="__main__")


PROGRAMS: Mapping[str, Callable[[], None]] = {
    "penstock": cli.main,
    "python": _run_script,
    "sandbox": _run_sandbox,
    CONFINED: _run_confined,
}
