"""The measurement of a start counts every process of a gateway, and only a start after which all models answer."""

import os
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from loadtests import start
from loadtests.processes import cpu_s

BUSY = "sum(range(30_000_000)); data = bytearray(30 << 20); print('ready', flush=True); input()"


def test_time_and_memory_of_a_process_are_those_of_the_system() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        assert cpu_s(process.pid) >= 0.05
        assert start.memory(process.pid) >= 30 << 20
        process.kill()


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
