"""Confines the present process for good, and says which layers hold; ``expect_layers`` says it without doing it."""

import os
import site
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from penstock.core.confinement import ConfinementReport, Mechanisms, Program, report_layers
from penstock.engine.confinement import landlock, limits, seccomp
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.confinement.limits import ResourceLimits

_SYSTEM: Final = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/locale",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl",
    "/etc/pki",
    "/sys",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/dev/null",
)


def library_paths() -> tuple[Path, ...]:
    """Return the files and folders that Python and its libraries read: code, locales, time zones, processor facts."""
    code = Path(__file__).resolve().parents[3]  # beside the package is what its compiled modules share
    paths = [code, Path(sys.prefix), Path(sys.base_prefix), *map(Path, _SYSTEM), *map(Path, site.getsitepackages())]
    paths += [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    for variable in ("PYTHONPATH", "LOCPATH"):  # code and locales of the operator
        paths += [Path(entry) for entry in os.environ.get(variable, "").split(os.pathsep) if entry]
    return tuple(path for path in paths if path.is_absolute() and path != Path("/"))


@dataclass(frozen=True, slots=True)
class SandboxedProgram:
    """What a sandboxed program may do: read and write ``paths``, within ``limits``."""

    paths: AllowedPaths
    limits: ResourceLimits


def confine_sandbox(program: SandboxedProgram) -> ConfinementReport:
    """Confine a program that runs a foreign model once, without a network; call it before there are threads."""
    memory = limits.limit_process(program.limits)
    namespace = limits.without_network()
    applied = _restrict(program.paths, Program.SANDBOX, writes=program.limits.file_bytes > 0)
    return report_layers(_with_limits(applied, memory, namespace), Program.SANDBOX)


def confine_worker(paths: AllowedPaths, memory_bytes: int) -> ConfinementReport:
    """Confine a worker that has opened its ports and the files of its slot; call it before there are threads."""
    memory = limits.limit_data(memory_bytes)
    applied = _restrict(paths, Program.WORKER, writes=True)
    return report_layers(_with_limits(applied, memory, namespace=False), Program.WORKER)


def _restrict(paths: AllowedPaths, program: Program, writes: bool) -> Mechanisms:
    """Apply privileges, Landlock and seccomp, in the order in which each is still allowed."""
    alone = len(list(Path("/proc/self/task").iterdir())) == 1
    no_new_privs = limits.refuse_new_privileges()
    readable = (*library_paths(), *paths.readable)
    abi = landlock.restrict(AllowedPaths(readable, (Path(os.devnull), *paths.writable))) if no_new_privs else 0
    limits.drop_capabilities(keep_file_access=abi > 0)
    filtered = no_new_privs and seccomp.install_filter(program, writes)
    return Mechanisms(abi, filtered, no_new_privs=no_new_privs, all_threads=alone)


def _with_limits(applied: Mechanisms, memory: bool, namespace: bool) -> Mechanisms:
    return Mechanisms(applied.landlock, applied.seccomp, namespace, applied.no_new_privs, memory, applied.all_threads)


@cache
def expect_layers(program: Program) -> ConfinementReport:
    """Return the layers that a program started now would have, by what the kernel offers."""
    return report_layers(Mechanisms(landlock.landlock_abi(), seccomp.is_available()), program)


def is_confined(pid: int) -> bool:
    """Whether a process has more filters of system calls than this one, as every process that runs models has; also
    True for one that has ended. Sockets that trust this user refuse such peers: a model must not speak as its user."""
    try:
        return _count_filters(str(pid)) > _count_filters("self")
    except OSError:
        return True


def _count_filters(process: str) -> int:
    """Return the number of seccomp filters of a process; of kernels before 5.9, whether it has any."""
    lines = Path(f"/proc/{process}/status").read_text("ascii", "replace").splitlines()
    facts = dict(line.partition(":")[::2] for line in lines)
    return int(facts.get("Seccomp_filters") or int(facts.get("Seccomp", "0")) // 2)
