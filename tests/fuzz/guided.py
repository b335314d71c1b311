"""Coverage-guided fuzzing: ``python -m tests.fuzz.guided TARGET [FOLDER] [options of libFuzzer]``.

Needs atheris, which is not part of the set-up (``pip install atheris``), and the package as plain Python
(``PENSTOCK_PURE=1 pip install --no-deps --no-build-isolation --editable .``): into compiled modules it cannot see. The
seeds of a target are its folder of ``corpus``; what is found goes to FOLDER, and what is worth keeping from there, with
``-merge=1``, to the corpus, which ``test_corpus`` replays without atheris.
"""

import sys
from importlib import import_module
from typing import Any

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["penstock.api", "penstock.core", "penstock.serving", "hpack"]):
    from penstock.serving import loop_batcher
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until a signal, or until a bug is found."""
    if not str(loop_batcher.__file__).endswith(".py"):
        sys.exit("the request path is compiled, and atheris cannot see into it; see the first lines of this file")
    name, *rest = sys.argv[1:]
    atheris.Setup([sys.argv[0], *rest], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
