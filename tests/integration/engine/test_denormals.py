"""Denormal numbers are zero for the models of a process that ask for it, whichever was loaded first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.engine.test_denormals import product

SCRIPT = """
import json, sys, threading
from pathlib import Path
import numpy as np
from penstock.core.errors import InvalidInput
from penstock.core.options import ModelOptions, SessionOptions
from penstock.engine import model

path, threads = Path(sys.argv[1]), int(sys.argv[3])
x = np.full(1 << 18, 1e-30, np.float32)
found = []

def count(loaded):  # how many of the answers are not zero: all of them, or none
    found.append(int(np.count_nonzero(loaded.run({"x": x}, ["y"])[0].view(np.uint32))))

loaded = []
for flag in sys.argv[2]:
    entries = () if flag == "-" else (("session.set_denormal_as_zero", flag),)
    loaded.append(model.load(path, ModelOptions(session=SessionOptions(threads, entries=entries)), threads))
for one in (*loaded, *loaded):
    count(one)
    thread = threading.Thread(target=count, args=[one])
    thread.start()
    thread.join()
found.append(int(np.float64(2.3e-308) / 4 > 0))
print(json.dumps(found))
"""
"""Runs models in a process of their own, since the first session of a process is not as the others."""


@pytest.mark.parametrize(
    ("flags", "threads"),
    [*((flags, 1) for flags in ("1-", "-1", "11", "--", "1-1", "-1-", "01", "10")), ("1-1", 2), ("-1-", 2)],
)
def test_each_model_of_a_process_has_its_own_setting(tmp_path: Path, flags: str, threads: int) -> None:
    arguments = [sys.executable, "-c", SCRIPT, str(product(tmp_path)), flags, str(threads)]
    results = json.loads(subprocess.run(arguments, capture_output=True, check=True).stdout)
    one_round = [0 if flag == "1" else 1 << 18 for flag in flags for _thread in range(2)]
    assert results == [*one_round, *one_round, 1]
