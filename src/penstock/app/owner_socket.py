"""The unix socket ``ops.sock`` in a gateway's home, by which its own user reaches the ops port's API.

The kernel notes who connects, and the mode of the file admits nobody else. A path may be longer than the 108 bytes that
an address has: then it is reached by way of the open folder.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = "ops.sock"
"""Its name in the home, for commands."""

BACKLOG = 128
_ADDRESS_BYTES = 107
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class OwnerSocket:
    """The socket of the gateway on a home; a new gateway takes the place of an earlier one's."""

    def __init__(self, home: Path) -> None:
        self.path = home / "ops.sock"
        self._inode = 0

    def listen(self) -> socket.socket:
        """Return a listening socket that only this user may connect to.

        Raises:
            OSError: it cannot be made, as the home is missing or read-only.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                self.path.unlink()
            with _shorten_path(self.path) as address:
                sock.bind(address)
            self.path.chmod(0o600)
            self._inode = self.path.stat().st_ino
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def remove(self) -> None:
        """Delete the socket file, unless another gateway has replaced it; failures are ignored."""
        with suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()


def connect(path: Path, timeout_s: float) -> socket.socket:
    """Return a connection to a unix socket.

    Raises:
        OSError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        with _shorten_path(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def _shorten_path(path: Path) -> Iterator[str]:
    """Yield a path to the same file that fits into an address."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, _FOLDER)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
