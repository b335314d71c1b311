"""Forks workers at the start of a gateway, from a process that has imported what they need and has done nothing else.

Such a worker is ready in a tenth of the processor time of a new interpreter, and shares its imports' memory with the
gateway. It waits for its arguments, and ends if the gateway ends first. Workers that replace others are new
interpreters (``process.start``): by then the gateway has threads, files and a database, which no worker may inherit.
"""

import gc
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from penstock.control.workers.environment import worker_environment
from penstock.control.workers.process import WorkerProcess

Main = Callable[[list[str]], int]
"""A worker's program: takes its arguments, and returns the exit code."""

_LENGTH: Final = struct.Struct("<I")
_STANDARD_ERROR: Final = 2


class ForkedProcess:
    """A child of this process that was forked; it has the part of ``subprocess.Popen`` that ``WorkerProcess`` uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        """Wait until it has ended; return its exit code, or -N after signal N."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class WaitingWorker:
    """A worker that waits for its arguments."""

    def __init__(self, process: ForkedProcess, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection

    def start(self, arguments: Sequence[str]) -> WorkerProcess:
        """Let it work.

        Raises:
            OSError: it has ended meanwhile.
        """
        try:
            message = "\0".join(arguments).encode()
            self._connection.sendall(_LENGTH.pack(len(message)) + message)
        except OSError:
            self.close()
            raise
        self._connection.close()
        return WorkerProcess(self._process.pid, self._process)

    def close(self) -> None:
        """End it: it is not needed."""
        self._connection.close()
        os.kill(self._process.pid, signal.SIGKILL)  # it is still a child of ours, so the number is its own
        self._process.wait()


class WaitingWorkers:
    """The workers that wait, in no order."""

    def __init__(self, workers: Sequence[WaitingWorker] = ()) -> None:
        self._workers = list(workers)

    def start(self, arguments: Sequence[str]) -> WorkerProcess | None:
        """Let one work; None if there is none any more."""
        while self._workers:
            with suppress(OSError):
                return self._workers.pop().start(arguments)
        return None

    def close(self) -> None:
        """End those that were not needed."""
        while self._workers:
            self._workers.pop().close()


def fork_workers(number: int, main: Main) -> WaitingWorkers:
    """Fork so many workers, or as many as the system allows; none where this process has more than one thread."""
    workers: list[WaitingWorker] = []
    threads = list(Path("/proc/self/task").iterdir())
    if len(threads) > 1:  # a lock that another one holds would stay locked in the child
        return WaitingWorkers()
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # so that collections leave the memory alone which is shared
    with suppress(OSError):
        while len(workers) < number:
            workers.append(_fork_worker(main))
    return WaitingWorkers(workers)


def _fork_worker(main: Main) -> WaitingWorker:
    own, its = socket.socketpair()
    with its:
        try:
            pid = os.fork()
        except OSError:
            own.close()
            raise
        if not pid:
            _run_prefork(its, main)
    return WaitingWorker(ForkedProcess(pid), own)


def _run_prefork(connection: socket.socket, main: Main) -> NoReturn:
    """Wait for the arguments, run the worker, and end the process; without arguments it ends at once."""
    code = 1
    try:
        _become_worker(connection)
        arguments = _read_arguments(connection)
        connection.close()
        code = 0 if arguments is None else main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become_worker(connection: socket.socket) -> None:
    """Leave the terminal and every file of the gateway; the standard output goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(_STANDARD_ERROR, 1)
    for handle in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if handle > _STANDARD_ERROR and handle not in (null, connection.fileno()):
            _forget(handle, null)
    _leave_environment()
    gc.enable()


def _leave_environment() -> None:
    """Keep of the gateway's environment what other workers get of it."""
    kept = worker_environment(os.environ)
    for name in os.environ.keys() - kept.keys():
        del os.environ[name]
    os.environ.update(kept)


def _forget(handle: int, null: int) -> None:
    """Release a file of the gateway, but keep its number in use: objects that will close it are in this memory too."""
    with suppress(OSError):
        os.fstat(handle)  # the one that listed them is closed already
        os.dup2(null, handle, inheritable=False)


def _read_arguments(connection: socket.socket) -> list[str] | None:
    """Return the arguments; None if the gateway has ended, or does not need this worker."""
    with connection.makefile("rb") as stream:
        head = stream.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        length = _LENGTH.unpack(head)[0]
        message = stream.read(length)
    return message.decode().split("\0") if len(message) == length else None
