"""The filter of system calls, run by an interpreter of its own: what it allows, and what it answers."""

import errno
import os
import re
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.confinement import Program
from penstock.engine.confinement import seccomp
from penstock.engine.confinement.seccomp import ALLOW, ERRNO, KILL, compile_filter
from penstock.engine.confinement.system_calls import AUDIT_ARCHITECTURES, read_numbers

PID = 4711
REFUSED, UNKNOWN = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
MACHINES = sorted(AUDIT_ARCHITECTURES)
CLONE_VM, CLONE_THREAD = 0x100, 0x10000


def run(code: bytes, number: int, architecture: int, arguments: tuple[int, ...] = ()) -> int:
    """Run a filter as the kernel does (classic BPF), and return its answer."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *padded)
    steps = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    place, accumulator = 0, 0
    while True:
        kind, when_true, when_false, value = steps[place]
        place += 1
        match kind:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, value)[0]
            case 0x54:
                accumulator &= value
            case 0x15:
                place += when_true if accumulator == value else when_false
            case 0x35:
                place += when_true if accumulator >= value else when_false
            case 0x06:
                return int(value)


class Filter:
    """One filter, asked by the names of calls."""

    def __init__(self, program: Program, writes: bool = True, machine: str = "x86_64") -> None:
        self.numbers = read_numbers(machine)
        self._architecture = AUDIT_ARCHITECTURES[machine]
        self._code = compile_filter(machine, program, PID, writes)

    def ask(self, name: str, *arguments: int) -> int:
        return run(self._code, self.numbers[name], self._architecture, arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("program", Program)
def test_calls_that_no_model_needs_are_refused(program: Program, machine: str) -> None:
    asked = Filter(program, machine=machine)
    names = [name for name in seccomp.REFUSED if name in asked.numbers]
    assert {"execve", "ptrace", "bpf", "mount", "unshare", "setns", "bind", "seccomp"} <= set(names)
    assert {asked.ask(name) for name in names} == {REFUSED}
    assert {asked.ask(name) for name in seccomp.UNKNOWN} == {UNKNOWN}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "worker", "sandbox"),
    [
        ("clone", (CLONE_VM | CLONE_THREAD,), ALLOW, ALLOW),
        ("clone", (17,), REFUSED, REFUSED),
        ("kill", (PID, 9), ALLOW, ALLOW),
        ("kill", (1, 9), REFUSED, REFUSED),
        ("kill", (2**32 - 1, 9), REFUSED, REFUSED),
        ("tgkill", (PID, PID, 6), ALLOW, ALLOW),
        ("tgkill", (PID + 1, PID + 1, 6), REFUSED, REFUSED),
        ("prlimit64", (0,), ALLOW, ALLOW),
        ("prlimit64", (PID,), ALLOW, ALLOW),
        ("prlimit64", (1,), REFUSED, REFUSED),
        ("ioctl", (0, 0x5401), ALLOW, ALLOW),
        ("ioctl", (0, 0x5412), REFUSED, REFUSED),
        ("ioctl", (0, 0x541C), REFUSED, REFUSED),
        ("socket", (socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC), ALLOW, REFUSED),
        ("socket", (socket.AF_UNIX, socket.SOCK_DGRAM), REFUSED, REFUSED),
        ("socket", (socket.AF_INET, socket.SOCK_STREAM), REFUSED, REFUSED),
        ("socket", (socket.AF_INET6, socket.SOCK_STREAM), REFUSED, REFUSED),
        ("socket", (16, socket.SOCK_RAW), REFUSED, REFUSED),
        ("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM), ALLOW, ALLOW),
        ("connect", (3,), ALLOW, REFUSED),
        ("listen", (3,), ALLOW, REFUSED),
        ("accept4", (3,), ALLOW, REFUSED),
        ("openat", (0, 0, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY), ALLOW, ALLOW),
        ("openat", (0, 0, os.O_WRONLY), ALLOW, REFUSED),
        ("openat", (0, 0, os.O_RDWR), ALLOW, REFUSED),
        ("openat", (0, 0, os.O_RDONLY | os.O_CREAT), ALLOW, REFUSED),
        ("openat", (0, 0, os.O_RDONLY | os.O_TRUNC), ALLOW, REFUSED),
        ("openat", (0, 0, os.O_TMPFILE), ALLOW, REFUSED),
    ],
)
def test_arguments_decide(machine: str, name: str, arguments: tuple[int, ...], worker: int, sandbox: int) -> None:
    assert Filter(Program.WORKER, machine=machine).ask(name, *arguments) == worker
    assert Filter(Program.SANDBOX, writes=False, machine=machine).ask(name, *arguments) == sandbox


@pytest.mark.parametrize("machine", MACHINES)
def test_a_program_that_writes_nothing_changes_no_names_either(machine: str) -> None:
    asked, writing = Filter(Program.SANDBOX, writes=False, machine=machine), Filter(Program.SANDBOX, machine=machine)
    names = [name for name in seccomp.WRITING_REFUSED if name in asked.numbers]
    assert {"unlinkat", "renameat2", "mkdirat", "linkat", "symlinkat", "utimensat"} <= set(names)
    assert {asked.ask(name) for name in names} == {REFUSED}
    assert {writing.ask(name) for name in names} == {ALLOW}


def test_a_sandbox_that_writes_may_open_files() -> None:
    assert Filter(Program.SANDBOX).ask("openat", 0, 0, os.O_WRONLY | os.O_CREAT) == ALLOW


@settings(max_examples=100)
@given(st.integers(0, 2000), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_all_other_calls_are_allowed_whatever_their_arguments(number: int, arguments: list[int]) -> None:
    numbers = read_numbers("x86_64").values()
    code = compile_filter("x86_64", Program.WORKER, PID, writes=True)
    if number not in numbers:
        assert run(code, number, AUDIT_ARCHITECTURES["x86_64"], tuple(arguments)) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_other_processor_modes_end_the_process(machine: str) -> None:
    code = compile_filter(machine, Program.WORKER, PID, writes=True)
    assert run(code, 0, 0x40000003) == KILL  # 32 bits
    assert run(code, 0x40000000 + 59, AUDIT_ARCHITECTURES[machine]) == UNKNOWN  # x32


def test_there_is_no_filter_for_other_processors() -> None:
    assert compile_filter("riscv64", Program.WORKER, PID, writes=True) == b""


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_those_of_the_system(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("the headers of the kernel are not installed")
    lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    stated = {name: int(number) for name, number in lines}
    numbers = read_numbers(machine)
    assert {name: stated[name] for name in numbers if name in stated} == {
        name: number for name, number in numbers.items() if name in stated
    }
