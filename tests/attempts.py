"""What a foreign model may try once it runs code: each attempt by its name. As a program it prints what succeeded."""

import ctypes
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

PTRACE_ATTACH = 16


def attempts(own: Path, other: Path, address: tuple[str, int], stranger: int) -> Mapping[str, Callable[[], object]]:
    """Attempts of a process that may write in the folder ``own``; ``other`` is a file of others, ``address`` that of a
    listener, and ``stranger`` the id of another process."""
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "read passwd": Path("/etc/passwd").read_bytes,
        "read another file": other.read_bytes,
        "read another's environment": Path(f"/proc/{stranger}/environ").read_bytes,
        "overwrite another file": lambda: other.open("r+b").close(),
        "truncate another file": lambda: os.truncate(other, 0),
        "delete another file": other.unlink,
        "change another's mode": lambda: other.chmod(0o777),
        "create a file": lambda: (other.parent / "new").write_text("x"),
        "write in its own folder": lambda: (own / "new").write_text("x"),
        "connect": lambda: socket.create_connection(address, 1),
        "send a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", address),
        "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "signal another": lambda: os.kill(stranger, 0),
        "start a process": lambda: os.waitpid(_fork(), 0),
        "execute": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "trace": lambda: _check(libc.ptrace(PTRACE_ATTACH, stranger, 0, 0)),
        "mount": lambda: _check(libc.mount(b"none", os.fsencode(own), b"tmpfs", 0, None)),
        "start a thread": lambda: threading.Thread(target=int).start(),
    }


def _fork() -> int:
    pid = os.fork()
    if not pid:
        os._exit(0)
    return pid


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")


def succeeded(tries: Mapping[str, Callable[[], object]]) -> list[str]:
    """Return the names of the attempts that succeeded."""
    done = []
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError:
            continue
        done.append(name)
    return done


def confined_lines() -> list[str]:
    """Return what the kernel says of this process's confinement."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("NoNewPrivs", "Seccomp:"))]


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    tries = attempts(Path(values["own"]), Path(values["other"]), tuple(values["address"]), values["stranger"])
    print(json.dumps([succeeded(tries), confined_lines()]))  # noqa: T201 - it is a program
