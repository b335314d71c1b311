"""How an instance comes to be: fresh, taken over, or beside what is left of another."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.control.instance import directory
from penstock.control.instance.acquire import AcquiredInstance, open_instance
from penstock.control.instance.directory import RuntimeUnavailable
from penstock.control.instance.drain import retire
from penstock.control.instance.options import WorkerOptions
from penstock.control.instance.ports import PortUnavailable, address_of
from penstock.control.workers import slots
from tests.harness import PATIENCE_S

pytestmark = pytest.mark.processes

ANY_PORTS = WorkerOptions("127.0.0.1", 0, 0, workers=2)
WORKER = """
import sys
from pathlib import Path
from penstock.control.workers.slots import SlotLock
lock = SlotLock(Path(sys.argv[1]), writable=True)
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def homes() -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield directory.open_homes(Path(folder) / "home", [Path(folder) / "first", Path(folder) / "second"])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def opened(
    stack: ExitStack, homes: list[Path], options: WorkerOptions = ANY_PORTS, models: str = "/m"
) -> AcquiredInstance:
    opening = open_instance(homes, options, models, "1.0")
    stack.callback(opening.instance.release)
    for sock in opening.held:
        stack.callback(sock.close)
    return opening


def locked(slot: Path) -> subprocess.Popen[bytes]:
    """A process that owns a slot until its standard input ends."""
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(slot)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"True\n"
    return worker


def orphaned(stack: ExitStack, homes: list[Path]) -> AcquiredInstance:
    """An instance whose one living worker has lost its control process."""
    opening = opened(stack, homes)
    stack.enter_context(locked(opening.instance.slot(1)))
    for sock in opening.held:
        sock.close()
    opening.instance.release()
    return opening


def test_workers_of_a_release_with_smaller_slots_live_and_are_replaced(stack: ExitStack, homes: list[Path]) -> None:
    older = open_instance(homes, ANY_PORTS, "/m", "0.9")
    slot = older.instance.slot(1)
    os.truncate(slot, slot.stat().st_size // 2)
    worker = stack.enter_context(locked(slot))
    for sock in older.held:
        sock.close()
    older.instance.release()
    ports = replace(ANY_PORTS, http_port=older.options.http_port, grpc_port=older.options.grpc_port)
    opening = opened(stack, homes, ports)
    assert [instance.path for instance in opening.replaced] == [older.instance.path]
    asyncio.run(retire(opening.replaced[0], PATIENCE_S))
    assert worker.wait(PATIENCE_S) == -signal.SIGTERM
    assert not older.instance.path.exists()


def test_a_fresh_instance_has_its_slots_and_its_ports(stack: ExitStack, homes: list[Path]) -> None:
    opening = opened(stack, homes)
    assert not opening.adopted
    assert opening.instance.path.parent == homes[0]
    assert [path.name for path in opening.instance.slots()] == ["slot-0", "slot-1"]
    ports = [address_of(sock).port for sock in opening.held]
    assert [opening.options.http_port, opening.options.grpc_port] == ports
    assert opening.instance.read("instance")["options"]["http_port"] == ports[0]


def test_instances_of_running_control_processes_are_left_alone(stack: ExitStack, homes: list[Path]) -> None:
    first, second = opened(stack, homes), opened(stack, homes)
    assert first.instance.path != second.instance.path
    assert first.instance.path.exists()


def test_an_orphan_that_does_the_same_is_taken_over(stack: ExitStack, homes: list[Path]) -> None:
    orphan = orphaned(stack, homes)
    opening = opened(stack, homes)
    assert opening.adopted
    assert opening.instance.path == orphan.instance.path
    assert opening.options == orphan.options


def test_an_orphan_that_does_something_else_on_the_same_ports_is_replaced(stack: ExitStack, homes: list[Path]) -> None:
    orphan = orphaned(stack, homes)
    opening = opened(stack, homes, orphan.options, models="/others")
    assert not opening.adopted
    assert [instance.path for instance in opening.replaced] == [orphan.instance.path]
    assert opening.options.http_port == orphan.options.http_port


def test_an_orphan_elsewhere_is_left_alone(stack: ExitStack, homes: list[Path]) -> None:
    orphan = orphaned(stack, homes)
    opening = opened(stack, homes, models="/others")
    assert not opening.adopted
    assert opening.replaced == []
    assert [instance.path for instance in directory.take_abandoned(homes[0])] == [orphan.instance.path]


def test_what_the_dead_left_is_cleared_away(stack: ExitStack, homes: list[Path]) -> None:
    dead = opened(stack, homes)
    dead.instance.release()
    (directory.create(homes[1]).path / "lock").unlink()
    opening = opened(stack, homes)
    assert not dead.instance.path.exists()
    assert list(homes[0].iterdir()) == [opening.instance.path]


def test_the_dead_of_other_homes_give_their_memory_back(stack: ExitStack, homes: list[Path]) -> None:
    other = directory.open_homes(homes[0].parent.parent / "other", [home.parent for home in homes])
    orphan, dead, controlled = (
        orphaned(stack, other),
        opened(stack, other, models="/a"),
        opened(stack, other, models="/b"),
    )
    dead.instance.release()
    opened(stack, homes)
    assert not dead.instance.path.exists()
    assert orphan.instance.path.exists()
    assert controlled.instance.path.exists()


def test_a_port_of_somebody_else_leaves_nothing_behind(stack: ExitStack, homes: list[Path]) -> None:
    taken = opened(stack, homes).options
    with pytest.raises(PortUnavailable, match="--grpc-port"):
        open_instance(homes, replace(ANY_PORTS, grpc_port=taken.grpc_port), "/m", "1.0")
    assert len(list(homes[0].iterdir())) == 1


def test_a_failure_afterwards_leaves_nothing_behind(homes: list[Path]) -> None:
    opening = open_instance(homes, ANY_PORTS, "/m", "1.0")
    with pytest.raises(PortUnavailable), opening.given_up_on_failure():
        raise PortUnavailable("no")
    assert not opening.instance.path.exists()
    assert all(sock.fileno() == -1 for sock in opening.held)


def test_a_failure_afterwards_leaves_an_orphan_as_it_was(stack: ExitStack, homes: list[Path]) -> None:
    orphan = orphaned(stack, homes)
    opening = open_instance(homes, ANY_PORTS, "/m", "1.0")
    with pytest.raises(PortUnavailable), opening.given_up_on_failure():
        raise PortUnavailable("no")
    assert opened(stack, homes).instance.path == orphan.instance.path


def test_full_shared_memory_is_skipped(stack: ExitStack, homes: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    create = slots.create

    def full(path: Path) -> None:
        if homes[0] in path.parents and path.name == "slot-1":
            raise OSError(errno.ENOSPC, "No space left on device")
        create(path)

    monkeypatch.setattr(slots, "create", full)
    opening = opened(stack, homes)
    assert opening.instance.path.parent == homes[1]
    with pytest.raises(RuntimeUnavailable, match="2 workers"):
        open_instance(homes[:1], ANY_PORTS, "/m", "1.0")
