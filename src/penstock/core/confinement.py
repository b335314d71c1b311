"""The protections of a confined process, and which of them hold by what the kernel has applied: pure rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

REQUIRED: Final = "required"
BEST_EFFORT: Final = "best_effort"

NETWORK_ABI: Final = 4
"""The first version of Landlock with rules for TCP (Linux 6.7)."""

SIGNALS_ABI: Final = 6
"""The first version of Landlock that confines signals (Linux 6.12)."""


class Layer(StrEnum):
    """What a layer of confinement protects."""

    FILES = "files"
    NETWORK = "network"
    SIGNALS = "signals"
    SYSTEM_CALLS = "system_calls"
    PRIVILEGES = "privileges"
    MEMORY = "memory"


class Program(StrEnum):
    """The kinds of confined programs: a worker serves its ports, and a sandboxed program has no network at all."""

    WORKER = "worker"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """What the kernel has applied, or would apply: the version of Landlock (0 for none), a seccomp filter, a network
    namespace of its own, ``no_new_privs``, a memory limit, and whether all threads of the process are confined."""

    landlock: int = 0
    seccomp: bool = False
    namespace: bool = False
    no_new_privs: bool = True
    memory: bool = True
    all_threads: bool = True


@dataclass(frozen=True, slots=True)
class ConfinementReport:
    """The layers in force, each with its mechanism, and the missing ones, each with the reason."""

    in_force: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether no layer is missing."""
        return not self.missing

    @property
    def problem(self) -> str:
        """The missing layers as a text, "" for none."""
        return "; ".join(f"{name} ({reason})" for name, reason in self.missing.items())


def report_layers(mechanisms: Mechanisms, program: Program) -> ConfinementReport:
    """Return the layers that these mechanisms give a program."""
    found = {
        Layer.FILES: _by_landlock(mechanisms),
        Layer.NETWORK: _describe_network(mechanisms, program),
        Layer.SIGNALS: _describe_signals(mechanisms),
        Layer.SYSTEM_CALLS: _by_seccomp(mechanisms),
        Layer.PRIVILEGES: ("no_new_privs", "") if mechanisms.no_new_privs else ("", "no_new_privs cannot be set"),
        Layer.MEMORY: ("rlimit", "") if mechanisms.memory else ("", "its memory cannot be limited"),
    }
    in_force = {str(layer): mechanism for layer, (mechanism, _) in found.items() if mechanism}
    return ConfinementReport(in_force, {str(layer): why for layer, (_, why) in found.items() if why})


def _by_landlock(mechanisms: Mechanisms) -> tuple[str, str]:
    """Return the mechanism that protects files and "", or "" and why none does."""
    if not mechanisms.landlock:
        return "", "this kernel has no Landlock, or it is switched off"
    if not mechanisms.all_threads:
        return "", "the process has threads that Landlock does not reach"
    return f"Landlock {mechanisms.landlock}", ""


def _by_seccomp(mechanisms: Mechanisms) -> tuple[str, str]:
    if mechanisms.seccomp:
        return "seccomp", ""
    return "", "this kernel has no seccomp filters, or the processor is neither x86-64 nor AArch64"


def _describe_network(mechanisms: Mechanisms, program: Program) -> tuple[str, str]:
    """A worker accepts connections, and ``connect`` can lead such a socket elsewhere: only Landlock refuses that."""
    if program is Program.SANDBOX and mechanisms.namespace:
        return "network namespace", ""
    mechanism, why = _by_seccomp(mechanisms)
    if why or program is Program.SANDBOX:
        return mechanism, why
    landlock, why = _by_landlock(mechanisms)
    if why:
        return "", why
    if mechanisms.landlock < NETWORK_ABI:
        return "", f"it takes Landlock {NETWORK_ABI} (Linux 6.7), and this kernel has {mechanisms.landlock}"
    return f"{mechanism} and {landlock}", ""


def _describe_signals(mechanisms: Mechanisms) -> tuple[str, str]:
    mechanism, why = _by_seccomp(mechanisms)
    if not why:
        return mechanism, ""
    landlock = _by_landlock(mechanisms)[0]
    return (landlock, "") if landlock and mechanisms.landlock >= SIGNALS_ABI else ("", why)


def encode_report(report: ConfinementReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {"in_force": dict(report.in_force), "missing": dict(report.missing)}


def decode_report(values: Mapping[str, Any]) -> ConfinementReport:
    """Return the report in JSON values."""
    return ConfinementReport(dict(values["in_force"]), dict(values["missing"]))
