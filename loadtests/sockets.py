"""Which process owns which TCP connection of this machine, read from /proc."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED, _LISTEN = "01", "0A"


@dataclass(frozen=True, slots=True)
class _Socket:
    state: str
    local: int
    remote: int
    inode: str


def find_listening(pids: Iterable[int], port: int) -> list[int]:
    """Those processes that listen on the port."""
    inodes = {socket.inode for socket in _read_table() if socket.state == _LISTEN and socket.local == port}
    return [pid for pid in pids if inodes & _read_inodes(pid)]


def find_peers(pid: int, port: int) -> set[int]:
    """The other side's ports of the process's connections on that port of its own."""
    inodes = _read_inodes(pid)
    return {
        socket.remote
        for socket in _read_table()
        if socket.state == _ESTABLISHED and socket.local == port and socket.inode in inodes
    }


def _read_table() -> list[_Socket]:
    rows = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(name).read_text().splitlines()[1:]:
            fields = line.split()
            local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            rows.append(_Socket(fields[3], local, remote, fields[9]))
    return rows


def _read_inodes(pid: int) -> set[str]:
    """The inodes of a process's sockets; none once it has ended."""
    inodes = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        return inodes
    return inodes
