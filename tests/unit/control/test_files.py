"""Runtime directories, slot files, model folders: what lies in the file system."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.control.instance import directory
from penstock.control.workers import slots
from penstock.control.workers.process import adopt
from penstock.control.workers.slots import SlotFile
from penstock.monitor.counters.layout import SLOT_BYTES
from tests.harness import PATIENCE_S


def test_a_private_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    made = directory.make_private(tmp_path / "mine")
    assert made.stat().st_mode & 0o777 == 0o700
    assert directory.make_private(made) == made


def test_an_open_or_linked_directory_is_not_trusted(tmp_path: Path) -> None:
    opened = tmp_path / "open"
    opened.mkdir(mode=0o755)
    opened.chmod(0o755)
    with pytest.raises(PermissionError):
        directory.make_private(opened)
    (tmp_path / "link").symlink_to(directory.make_private(tmp_path / "mine"))
    with pytest.raises(OSError):
        directory.make_private(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_not_trusted(tmp_path: Path) -> None:
    strangers = directory.make_private(tmp_path / "strangers")
    os.chown(strangers, 12345, 12345)
    with pytest.raises(PermissionError):
        directory.make_private(strangers)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_untrusted_base_directories_are_skipped(short_path: Path) -> None:
    opened = short_path / "open"
    opened.mkdir()
    opened.chmod(0o777)
    homes = directory.open_homes(short_path / "home", [opened, short_path / "good", short_path / ("long" * 30)])
    assert [home.parent.name for home in homes] == ["good"]
    with pytest.raises(directory.RuntimeUnavailable):
        directory.open_homes(short_path / "home", [opened])


def test_homes_do_not_meet(short_path: Path) -> None:
    one, same, other = (directory.open_homes(short_path / name, [short_path / "b"])[0] for name in ("h1", "h1", "h2"))
    assert one == same != other


def test_the_best_base_is_in_memory() -> None:
    places = directory.list_bases({"XDG_RUNTIME_DIR": "/run/user/7"}, 7)
    assert [str(place) for place in places[:2]] == ["/dev/shm/penstock-7", "/run/user/7/penstock"]
    assert len(directory.list_bases({}, 7)) == 2


def test_an_instance_is_abandoned_only_without_its_control_process(tmp_path: Path) -> None:
    home = directory.make_private(tmp_path / "home")
    instance = directory.create(home)
    instance.write("instance", {"a": 1})
    assert directory.take_abandoned(home) == []
    instance.release()
    found = directory.take_abandoned(home)
    assert [item.path for item in found] == [instance.path]
    assert found[0].read("instance") == {"a": 1}
    assert directory.take_abandoned(home) == []
    found[0].remove()
    assert not home.exists()
    assert directory.take_abandoned(home) == []


def test_documents_that_cannot_be_read_are_empty(tmp_path: Path) -> None:
    instance = directory.Instance(tmp_path)
    assert instance.read("state") == {}
    (tmp_path / "state.json").write_text('{"torn')
    assert instance.read("state") == {}
    (tmp_path / "state.json").write_text("[1]")
    assert instance.read("state") == {}


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "LOCK_WAIT_S", 0.0)
    with directory.hold_lock(tmp_path / "lock"):
        assert directory.try_lock(tmp_path / "lock") is None
        with pytest.raises(directory.RuntimeUnavailable), directory.hold_lock(tmp_path / "lock"):
            pass
    with directory.hold_lock(tmp_path / "lock"):
        pass


def test_a_slot_is_shared_memory(tmp_path: Path) -> None:
    slots.create(tmp_path / "slot-0")
    assert (tmp_path / "slot-0").stat().st_blocks * 512 >= SLOT_BYTES  # set aside, so that no write can fail
    writer, reader = SlotFile(tmp_path / "slot-0"), SlotFile(tmp_path / "slot-0", writable=False)
    writer.slot.take_over(41)
    writer.slot.block(3).set_in_flight(1)
    assert reader.slot.pid == 41
    assert slots.sum_totals([reader.slot, reader.slot])(3).inflight == 2
    with pytest.raises((TypeError, ValueError)):
        reader.slot.beat(1)
    writer.close()
    reader.close()


OWNER = """
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from penstock.control.workers.slots import SlotFile
file = SlotFile(Path(sys.argv[1]))
print(file.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.mark.processes
def test_the_owner_of_a_slot_is_known_while_it_lives(tmp_path: Path) -> None:
    slots.create(tmp_path / "slot-0")
    file = SlotFile(tmp_path / "slot-0")
    assert file.owner() == 0
    assert adopt(file) is None
    command = [sys.executable, "-c", OWNER, str(tmp_path / "slot-0")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"True\n"
        assert file.owner() == owner.pid
        assert not file.acquire()
        adopted = adopt(file)
        assert adopted is not None
        assert adopted.pid == owner.pid
        assert not adopted.ended()
        adopted.kill()
        owner.wait(PATIENCE_S)
    assert adopted.ended()
    adopted.terminate()  # nobody is hurt
    assert adopted.close() == "adopted"
    assert file.owner() == 0
    assert file.acquire()
    file.close()


def test_a_lock_that_is_released_soon_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = directory.try_lock(tmp_path / "lock")
    assert held is not None
    monkeypatch.setattr(time, "sleep", lambda _: os.close(held))
    with directory.hold_lock(tmp_path / "lock"):
        assert directory.try_lock(tmp_path / "lock") is None
