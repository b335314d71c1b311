"""Denormal numbers are zero for the models that ask for it, and for no other, whichever was loaded first."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.options import ModelOptions, SessionOptions
from penstock.engine import denormals
from penstock.engine.model import LoadFailed, load
from tests.unit.engine import graphs

FLUSHING = ModelOptions(session=SessionOptions(entries=((denormals.ENTRY, "1"),)))

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


def product(folder: Path) -> Path:
    """y = x * 1e-10"""
    node = onnx.helper.make_node("Mul", ["x", "small"], ["y"])
    small = graphs.constant("small", np.float32(1e-10))
    return graphs.save(folder, [node], [graphs.tensor("x", ["N"])], [graphs.tensor("y", ["N"])], [small])


@pytest.mark.parametrize(
    ("flags", "threads"),
    [*((flags, 1) for flags in ("1-", "-1", "11", "--", "1-1", "-1-", "01", "10")), ("1-1", 2), ("-1-", 2)],
)
def test_each_model_of_a_process_has_its_own_setting(tmp_path: Path, flags: str, threads: int) -> None:
    arguments = [sys.executable, "-c", SCRIPT, str(product(tmp_path)), flags, str(threads)]
    results = json.loads(subprocess.run(arguments, capture_output=True, check=True).stdout)
    one_round = [0 if flag == "1" else 1 << 18 for flag in flags for _thread in range(2)]
    assert results == [*one_round, *one_round, 1]


def test_a_failing_run_leaves_the_thread_as_it_was(tmp_path: Path) -> None:
    model = load(graphs.gather(tmp_path), FLUSHING, 1)
    with pytest.raises(InvalidInput):
        model.run({"x": np.array([9], np.int64)}, ["y"])
    assert np.float64(2.3e-308) / 4 > 0


def test_a_machine_without_the_setting_refuses_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denormals, "_ENVIRONMENTS", None)
    with pytest.raises(LoadFailed, match=r"session.set_denormal_as_zero is not supported on this machine"):
        load(product(tmp_path), FLUSHING, 1)
    load(product(tmp_path), ModelOptions(), 1)
