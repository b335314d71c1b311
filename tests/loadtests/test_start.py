"""The measurement of a start counts every process of a gateway, and only a start after which all models answer."""

import os
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from loadtests import start
from loadtests.processes import cpu_s, list_tree

BUSY = "sum(range(30_000_000)); data = bytearray(30 << 20); print('ready', flush=True); input()"


def test_time_and_memory_of_a_process_are_those_of_the_system() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        assert cpu_s(process.pid) >= 0.05
        assert start.memory([process.pid]) >= 30 << 20
        process.kill()


FORKS = """
import mmap, os, sys, time
data = bytearray(30 << 20)
file = open(sys.executable, "rb")
pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.fork()
sum(pages[::4096])
print("ready", flush=True)
time.sleep(60)
"""


def test_pages_that_processes_share_count_once_and_those_of_files_whole() -> None:
    with subprocess.Popen([sys.executable, "-c", FORKS], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline()
            assert process.stdout.readline()
            both = list_tree(process.pid)
            assert len(both) == 2
            assert 30 << 20 <= start.memory(both) < 55 << 20
            assert start.memory([*both, 2**22]) >= 30 << 20
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_pages_of_a_file_are_those_that_nobody_changed() -> None:
    assert start._file_pages(MAPPED) == {("/lib/a b.so", "00001000"): 12 << 10, ("/run/counters", "00000000"): 8 << 10}


MAPPED = """\
7f10-7f20 r-xp 00001000 fe:00 17 /lib/a b.so
Size:     40 kB
Rss:      16 kB
Pss:       3 kB
Anonymous: 4 kB
VmFlags: rd ex
7f20-7f30 rw-s 00000000 00:2a 18 /run/counters
Rss:       8 kB
Anonymous: 0 kB
VmFlags: rd wr
7f30-7f40 rw-p 00000000 00:00 0
Rss:      99 kB
Anonymous: 99 kB
7f40-7f50 rw-p 00000000 00:00 0 [heap]
Rss:      99 kB
Anonymous: 99 kB
"""


def test_time_of_a_child_that_ended_counts() -> None:
    own, before = cpu_s(os.getpid()), cpu_s(os.getpid(), with_ended=True)
    subprocess.run([sys.executable, "-c", "sum(range(30_000_000))"], timeout=120, check=True)
    assert cpu_s(os.getpid(), with_ended=True) - before >= cpu_s(os.getpid()) - own + 0.05


def test_a_second_start_is_on_the_home_of_the_first() -> None:
    cold, again = start.gateway(2)
    assert cold.memory < again.memory + (20 << 20)  # without the process that examines models: it ends with the start


def test_a_start_without_one_of_the_models_is_none(tmp_path: Path) -> None:
    with start.copies(1) as models, pytest.raises(urllib.error.HTTPError):
        start.measure(start.gateway_command(models, tmp_path), ["absent"])
