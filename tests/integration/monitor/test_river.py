"""How river is imported: in processes of their own, which have not imported it."""

import subprocess
import sys

TWO_LOAD_RIVER = """
import sys, threading
import river.metrics, river.utils
from penstock.monitor.performance import load_river
second = threading.Thread(target=lambda: load_river().drift.ADWIN())
failed = []
threading.excepthook = lambda args: failed.append(args.exc_value)

class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == "river.drift.retrain":  # the last module of a package whose others are all there
            second.start()
            second.join(1)

sys.meta_path.insert(0, Hold())
load_river()
second.join()
sys.exit(str(failed[0]) if failed else 0)
"""


LOADED = """
import sys
from penstock.monitor.performance import load_river
load_river()
print([name for name in ("pandas", "sklearn", "river.drift.datasets") if name in sys.modules])
from river.drift.datasets import AirlinePassengers
"""


def test_a_thread_that_needs_river_waits_for_the_one_that_imports_it() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_LOAD_RIVER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_river_comes_without_its_data_sets_and_what_they_import() -> None:
    said = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
