"""seccomp: a filter of system calls, as a program of classic BPF that the kernel runs before each call.

A confined process starts no programs and no processes, looks into no others, changes no mounts, times, modules, users
or rights of files, and makes no sockets beyond what its program needs. Calls that are not named here are allowed,
because libraries of execution providers make many; the kernel remembers those without conditions and skips the filter
for them (``seccomp_cache_prepare``), so that serving costs nothing. The form of programs and their data is that of
``linux/filter.h`` and ``linux/seccomp.h``.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from penstock.core.confinement import Program
from penstock.engine.confinement.system_calls import AUDIT_ARCHITECTURES, find_machine, read_numbers

_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
_OTHER_ABI = 0x40000000
"""Numbers from here on are those of the x32 ABI, which nothing here uses."""

_SET_FILTER, _ACTION_AVAILABLE = 1, 2
_ALL_THREADS, _NO_SPECULATION_CHANGE = 1, 4
_SECCOMP: Final = "seccomp"
_CLONE_THREAD = 0x10000
_SOCK_TYPE = 0xF
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_WRITING: Final = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)

_REFUSED_TEXT: Final = """
execve execveat fork vfork unshare setns ptrace process_vm_readv process_vm_writev process_madvise process_mrelease
kcmp pidfd_open pidfd_getfd pidfd_send_signal bpf perf_event_open userfaultfd personality modify_ldt seccomp
mount umount2 pivot_root chroot uselib fsopen fsconfig fsmount fspick open_tree open_tree_attr move_mount
mount_setattr statmount listmount keyctl add_key request_key kexec_load kexec_file_load init_module finit_module
delete_module reboot swapon swapoff acct quotactl quotactl_fd settimeofday clock_settime clock_adjtime adjtimex
sethostname setdomainname iopl ioperm syslog vhangup lookup_dcookie name_to_handle_at open_by_handle_at
fanotify_init mknod mknodat setuid setgid setreuid setregid setgroups setresuid setresgid setfsuid setfsgid capset
move_pages migrate_pages memfd_secret chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat setxattr
lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat truncate tkill bind
"""
REFUSED: Final = tuple(_REFUSED_TEXT.split())
"""Calls that fail with EPERM in every confined program. Sockets of a worker are bound before."""

UNKNOWN: Final = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "openat2")
"""Calls that fail with ENOSYS, as in an old kernel, because the C library and libuv then use others: their arguments
are in memory, which a filter cannot read."""

SANDBOX_REFUSED: Final = ("connect", "listen", "accept", "accept4")

_WRITING_TEXT: Final = """
creat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir link linkat symlink symlinkat utime utimes futimesat
utimensat
"""
WRITING_REFUSED: Final = tuple(_WRITING_TEXT.split())
"""Calls that also fail with EPERM in a program that writes nothing, so that it changes no file without Landlock too."""


@dataclass(frozen=True, slots=True)
class ArgumentCondition:
    """A condition on the lower 32 bits of an argument: under ``mask`` it is one of ``values``, or none of them."""

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    is_one: bool = True


@dataclass(frozen=True, slots=True)
class ConditionalCall:
    """A call that is allowed if all conditions hold, and fails with EPERM otherwise."""

    name: str
    conditions: tuple[ArgumentCondition, ...]


def conditional_calls(program: Program, pid: int, writes: bool) -> list[ConditionalCall]:
    """Return the calls that depend on their arguments: threads and no processes, signals to this process ``pid`` alone,
    sockets as the program needs them, and without ``writes`` no file that is opened for writing."""
    own = (ArgumentCondition(0, (pid,)),)
    calls = [
        ConditionalCall("clone", (ArgumentCondition(0, (_CLONE_THREAD,), _CLONE_THREAD),)),
        *(ConditionalCall(name, own) for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")),
        ConditionalCall("prlimit64", (ArgumentCondition(0, (0, pid)),)),
        ConditionalCall("ioctl", (ArgumentCondition(1, (_TIOCSTI, _TIOCLINUX), is_one=False),)),
        ConditionalCall("socket", _socket_conditions(program)),
        ConditionalCall("socketpair", (ArgumentCondition(0, (socket.AF_UNIX,)),)),
    ]
    if not writes:
        calls.append(ConditionalCall("openat", (ArgumentCondition(2, (0,), _WRITING),)))
        calls.append(ConditionalCall("open", (ArgumentCondition(1, (0,), _WRITING),)))
    return calls


def _socket_conditions(program: Program) -> tuple[ArgumentCondition, ...]:
    """A worker connects to its control process anew when that is replaced; a sandboxed program makes no socket."""
    if program is Program.SANDBOX:
        return (ArgumentCondition(0, ()),)
    return ArgumentCondition(0, (socket.AF_UNIX,)), ArgumentCondition(1, (socket.SOCK_STREAM,), _SOCK_TYPE)


def compile_filter(machine_name: str, program: Program, pid: int, writes: bool) -> bytes:
    """Return the filter for a processor, "" for one without."""
    numbers = read_numbers(machine_name)
    if not numbers:
        return b""
    refused = REFUSED + (SANDBOX_REFUSED if program is Program.SANDBOX else ()) + (() if writes else WRITING_REFUSED)
    parts = [
        _load(_ARCHITECTURE_AT),
        _jump(_JUMP_EQUAL, AUDIT_ARCHITECTURES[machine_name], 1, 0),
        _return(KILL),
        _load(_NUMBER_AT),
        _jump(_JUMP_AT_LEAST, _OTHER_ABI, 0, 1),
        _return(ERRNO | errno.ENOSYS),
    ]
    for name in UNKNOWN:
        parts += _refuse(numbers[name], errno.ENOSYS)
    for name in refused:
        if name in numbers:
            parts += _refuse(numbers[name], errno.EPERM)
    for call in conditional_calls(program, pid, writes):
        if call.name in numbers:
            parts += _check(numbers[call.name], call.conditions)
    return b"".join([*parts, _return(ALLOW)])


def _refuse(number: int, code: int) -> list[bytes]:
    return [_jump(_JUMP_EQUAL, number, 0, 1), _return(ERRNO | code)]


def _check(number: int, conditions: Sequence[ArgumentCondition]) -> list[bytes]:
    """Return the part of a filter for one call with conditions; for other calls it does nothing."""
    body = [*(part for condition in conditions for part in _encode_condition(condition)), _return(ALLOW)]
    return [_jump(_JUMP_EQUAL, number, 0, len(body)), *body]


def _encode_condition(condition: ArgumentCondition) -> Iterator[bytes]:
    """Go on behind this part if the condition holds, else fail with EPERM."""
    yield _load(_ARGUMENTS_AT + 8 * condition.index)
    yield struct.pack("=HBBI", _AND, 0, 0, condition.mask)
    for left, value in zip(reversed(range(len(condition.values))), condition.values, strict=True):
        if condition.is_one:
            yield _jump(_JUMP_EQUAL, value, left + 1, 0)  # behind the refusal
        else:
            yield _jump(_JUMP_EQUAL, value, left, 0 if left else 1)  # to the refusal
    yield _return(ERRNO | errno.EPERM)


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(kind: int, value: int, when_true: int, when_false: int) -> bytes:
    return struct.pack("=HBBI", kind, when_true, when_false, value)


def _return(action: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, action)


class _FilterProgram(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


_libc = ctypes.CDLL(None, use_errno=True)


def is_available() -> bool:
    """Whether this kernel has filters, and this processor is one of those for which they are written."""
    number = read_numbers(find_machine()).get(_SECCOMP)
    action = ctypes.c_uint32(ERRNO)
    return number is not None and _libc.syscall(number, _ACTION_AVAILABLE, 0, ctypes.byref(action)) == 0


def install_filter(program: Program, writes: bool = True) -> bool:
    """Filter the calls of all threads of this process from now on; return whether that succeeded. ``no_new_privs`` must
    be set."""
    code = compile_filter(find_machine(), program, os.getpid(), writes)
    if not code:
        return False
    filtering = _FilterProgram(len(code) // 8, code)
    # without the second flag, kernels before 5.16 would slow every filtered process down against speculation
    flags = _ALL_THREADS | _NO_SPECULATION_CHANGE
    number = read_numbers(find_machine())[_SECCOMP]
    return bool(_libc.syscall(number, _SET_FILTER, flags, ctypes.byref(filtering)) == 0)
