"""Ids that Penstock gives to requests without one: no two requests of a gateway have the same."""

import json
import subprocess
import sys

import pytest

FORKS = """
import json, os, random
from penstock.serving.infer_call import new_id

def drawn():
    return [new_id(), new_id(), random.random()]

def forked():
    source, sink = os.pipe()
    if not os.fork():
        os.write(sink, json.dumps(drawn()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(source, 10_000))

new_id(), random.random()
print(json.dumps([drawn(), forked(), forked(), drawn()]))
"""


@pytest.mark.processes
def test_forks_of_a_process_give_other_ids_and_draw_other_numbers() -> None:
    """The workers of a gateway are forks of it."""
    run = subprocess.run([sys.executable, "-c", FORKS], check=True, capture_output=True, text=True)
    drawn = [value for values in json.loads(run.stdout) for value in values]
    assert len(set(drawn)) == len(drawn) == 12
