"""The end of an instance that another one replaces: its workers drain or are ended, and nothing of it is left."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.control.instance.directory import create, make_private
from penstock.control.instance.drain import retire
from penstock.control.workers import slots
from tests.harness import PATIENCE_S

WORKER = """
import signal, sys, time
from pathlib import Path
from penstock.control.workers.slots import SlotFile

if sys.argv[2] == "drains":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
file = SlotFile(Path(sys.argv[1]))
print(file.acquire(), flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("kinds", "patience_s", "codes"),
    [(["drains", "drains"], PATIENCE_S, [7, 7]), (["hangs"], 0.2, [-9]), ([], PATIENCE_S, [])],
)
@pytest.mark.processes
def test_workers_drain_or_are_ended_and_the_directory_goes(
    tmp_path: Path, kinds: list[str], patience_s: float, codes: list[int]
) -> None:
    instance = create(make_private(tmp_path / "home"))
    workers = []
    for index, kind in enumerate(kinds):
        slots.create(instance.slot(index))
        command = [sys.executable, "-c", WORKER, str(instance.slot(index)), kind]
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    slots.create(instance.slot(len(kinds)))  # its worker has ended already
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"True\n"
        before = set(Path("/proc/self/fd").iterdir())
        asyncio.run(retire(instance, patience_s))
        assert [worker.wait(PATIENCE_S) for worker in workers] == codes
        assert not instance.path.exists()
        assert set(Path("/proc/self/fd").iterdir()) <= before
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
