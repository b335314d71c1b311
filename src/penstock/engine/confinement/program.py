"""A confined process: `python -m penstock.engine.confinement.program RIGHTS MODULE ARGUMENTS…`.

It confines itself as the JSON object RIGHTS says (``child.encode_program``), and then runs the module in this process.
"""

import json
import runpy
import sys

from penstock.engine.confinement.child import UNSAFE, decode_program
from penstock.engine.confinement.confine import confine_sandbox
from penstock.engine.confinement.limits import die_with_parent


def main(rights: str, module: str, arguments: list[str]) -> int:
    """Confine this process, and run a module with these arguments; the module may end the process itself."""
    die_with_parent()
    values = json.loads(rights)
    confined = confine_sandbox(decode_program(values))
    if values["required"] and not confined.is_complete:
        sys.stderr.write(f"penstock: it cannot be run safely: {confined.problem}\n")
        return UNSAFE
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
