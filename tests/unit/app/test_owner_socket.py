"""The owner's socket: its mode, its name however long, and what a second gateway on the home leaves."""

import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from penstock.app.owner_socket import NAME, OwnerSocket, connect


def reaches(path: Path, listener: socket.socket) -> bool:
    """Whether who connects to the path comes out at the listener."""
    listener.settimeout(0)
    with closing(connect(path, 5.0)) as client:
        client.sendall(b"a")
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return False
        with closing(accepted):
            return accepted.recv(1) == b"a"


@pytest.mark.parametrize("name", ["home", "h" * 150, "missing/home"])
def test_only_the_owner_may_connect(tmp_path: Path, name: str) -> None:
    owner = OwnerSocket(tmp_path / name)
    with closing(owner.listen()) as listener:
        assert stat.S_IMODE((tmp_path / name / NAME).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
        assert reaches(owner.path, listener)
    owner.remove()
    assert not owner.path.exists()
    owner.remove()


def test_a_new_gateway_takes_over_and_the_old_one_leaves_it_alone(tmp_path: Path) -> None:
    first, second = OwnerSocket(tmp_path), OwnerSocket(tmp_path)
    with closing(first.listen()), closing(second.listen()) as listener:
        first.remove()
        assert reaches(second.path, listener)
    second.remove()
    assert not second.path.exists()


def test_a_socket_without_a_gateway_is_refused(tmp_path: Path) -> None:
    OwnerSocket(tmp_path).listen().close()
    with pytest.raises(ConnectionRefusedError):
        connect(tmp_path / NAME, 1.0)
    with pytest.raises(FileNotFoundError):
        connect(tmp_path / "nothing", 1.0)


def test_a_home_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        OwnerSocket(tmp_path / "file" / "home").listen()
