"""Runs `penstock` as on a kernel without some system calls: `python -m tests.refused_calls CALLS -- ARGUMENTS…`.

CALLS are names with commas between them, ``landlock`` and ``unshare`` (a container without namespaces). A filter of the
kernel's own answers them with ENOSYS, in this process and in all that it starts.
"""

import ctypes
import errno
import os
import sys

from penstock.engine.confinement import limits, seccomp
from penstock.engine.confinement.system_calls import AUDIT_ARCHITECTURES, find_machine, read_numbers

NUMBERS = {"landlock": (444, 445, 446), "unshare": (read_numbers(find_machine())["unshare"],)}


def refuse(*names: str) -> None:
    """Refuse these calls from now on."""
    parts = [
        seccomp._load(seccomp._ARCHITECTURE_AT),
        seccomp._jump(seccomp._JUMP_EQUAL, AUDIT_ARCHITECTURES[find_machine()], 1, 0),
        seccomp._return(seccomp.KILL),
        seccomp._load(seccomp._NUMBER_AT),
    ]
    for number in [number for name in names for number in NUMBERS[name]]:
        parts += seccomp._refuse(number, errno.ENOSYS)
    code = b"".join([*parts, seccomp._return(seccomp.ALLOW)])
    assert limits.refuse_new_privileges()
    program = seccomp._FilterProgram(len(code) // 8, code)
    number = read_numbers(find_machine())["seccomp"]
    assert ctypes.CDLL(None).syscall(number, seccomp._SET_FILTER, 0, ctypes.byref(program)) == 0


if __name__ == "__main__":
    refuse(*sys.argv[1].split(","))
    os.execv(sys.executable, [sys.executable, "-m", "penstock", *sys.argv[sys.argv.index("--") + 1 :]])
