"""The unit of systemd as data, and its filter of system calls as the kernel runs it: what systemd does before it starts
the program, as far as it takes no systemd.

As a program: ``python -m tests.integration.deploy.unit_file CALLS COMMAND...`` replaces itself by the command, which
may make the system calls that the file names, and no others.
"""

import ctypes
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from penstock.engine.confinement import limits, seccomp
from penstock.engine.confinement.system_calls import AUDIT_ARCHITECTURES, find_machine

UNIT = Path(__file__).parents[3] / "deploy/systemd/penstock.service"
FAMILIES = {"AF_INET": socket.AF_INET, "AF_INET6": socket.AF_INET6, "AF_UNIX": socket.AF_UNIX}
NAMESPACES = {"unshare", "setns"}
"""The calls that RestrictNamespaces= refuses; it looks into the flags of clone as well."""


def read_unit(unit: Path = UNIT) -> dict[str, list[str]]:
    """The values of each directive, in their order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, is_one, value = line.partition("=")
        if is_one and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def environment_of(unit: dict[str, list[str]], state: Path) -> dict[str, str]:
    """The variables that the unit sets, with the folder of states in the place of /var/lib."""
    words = " ".join(unit["Environment"]).replace("%S", str(state)).split()
    return dict(word.split("=", 1) for word in words)


def allowed_calls(unit: dict[str, list[str]]) -> set[str]:
    """The system calls that the unit allows."""
    allowed: set[str] = set()
    for value in unit["SystemCallFilter"]:
        names = set(_expanded(value.removeprefix("~").split()))
        allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed - NAMESPACES if unit["RestrictNamespaces"] == ["yes"] else allowed


def _expanded(words: list[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("@"):
            shown = subprocess.run(
                ["systemd-analyze", "--no-pager", "syscall-filter", word], capture_output=True, text=True, check=True
            ).stdout
            yield from _expanded(re.findall(r"^ +([@\w-]+)$", shown, re.MULTILINE))
        else:
            yield word


def numbers() -> dict[str, int]:
    """The number of each system call of this machine."""
    header = "unistd_64.h" if find_machine() == "x86_64" else "unistd.h"
    (path,) = Path("/usr/include").glob(f"{find_machine()}-linux-gnu/asm/{header}")
    found = re.findall(r"^#define __NR_(\w+) (\d+)", path.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


def filter_code(allowed: set[str], families: list[str]) -> bytes:
    """A filter that lets these calls through, and sockets of these families; all others fail with EPERM."""
    known = numbers()
    parts = [
        seccomp._load(seccomp._ARCHITECTURE_AT),
        seccomp._jump(seccomp._JUMP_EQUAL, AUDIT_ARCHITECTURES[find_machine()], 1, 0),
        seccomp._return(seccomp.KILL),
        seccomp._load(seccomp._NUMBER_AT),
    ]
    condition = seccomp.ArgumentCondition(0, tuple(FAMILIES[name] for name in families))
    parts += seccomp._check(known["socket"], [condition])
    for name in sorted(allowed & known.keys()):
        parts += [seccomp._jump(seccomp._JUMP_EQUAL, known[name], 0, 1), seccomp._return(seccomp.ALLOW)]
    return b"".join([*parts, seccomp._return(seccomp.ERRNO | 1)])


def install(code: bytes) -> None:
    """Filter the system calls of this process from now on."""
    program = seccomp._FilterProgram(len(code) // 8, code)
    assert limits.refuse_new_privileges()
    assert seccomp._libc.syscall(numbers()["seccomp"], 1, 0, ctypes.byref(program)) == 0


if __name__ == "__main__":
    install(filter_code(set(Path(sys.argv[1]).read_text().split()), read_unit()["RestrictAddressFamilies"][0].split()))
    os.execv(sys.argv[2], sys.argv[2:])
