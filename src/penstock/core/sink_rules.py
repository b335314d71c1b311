"""What the sinks of policies may be: those of the configuration by name, and others within its hosts and one folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from penstock.core.addresses import HostList, host_of
from penstock.core.errors import InvalidInput, Unauthorised
from penstock.core.sinks import BUILT_IN, SinkSpec

FOLDER: Final = "sinks"
"""The folder below the gateway's home for the files of sinks that policies declare."""

OWN_FILES: Final = ".jsonl"
"""The ending of files that sinks may write elsewhere in the gateway's home; none of its own files has it."""


@dataclass(frozen=True, slots=True)
class SinkRules:
    """The sinks that the configuration ``declared``, and the ``hosts`` that others may reach.

    ``secret_fault`` returns why the secrets of a sink cannot be used, "" if they can; it may block.
    """

    declared: Mapping[str, SinkSpec] = field(default_factory=dict)
    hosts: HostList = field(default_factory=HostList)
    secret_fault: Callable[[SinkSpec], str] = lambda _: ""

    def check(self, sinks: Mapping[str, SinkSpec]) -> None:
        """Check new and changed sinks of a policy before it is set. May block.

        Raises:
            Unauthorised: one reaches what only the configuration and the gateway's own user may state.
            InvalidInput: one has the name of a sink of the configuration, or its secrets cannot be used.
        """
        for name, spec in sinks.items():
            if reason := find_refusal(spec, self.hosts):
                raise Unauthorised(
                    f"'sinks.{name}': {reason}; declare the sink in the configuration, or set the policy with the "
                    "penstock command on the gateway's machine, as the gateway's user"
                )
        if faults := self.faults_of(sinks):
            raise InvalidInput("; ".join(faults))

    def faults_of(self, sinks: Mapping[str, SinkSpec]) -> list[str]:
        """Return what is wrong with sinks whoever states them. May block."""
        taken = [
            f"'sinks.{name}' is a sink of the configuration; choose another name"
            for name in sinks
            if name in self.declared
        ]
        return taken + [
            f"'sinks.{name}': {fault}" for name, spec in sinks.items() if (fault := self.secret_fault(spec))
        ]


def find_refusal(spec: SinkSpec, hosts: HostList) -> str:
    """Return why a sink may not do what it states, "" if it may: one that a policy declares is bounded."""
    if spec.is_trusted:
        return ""
    if spec.kind not in BUILT_IN:
        return "a policy cannot use sinks of other packages"
    if any(name.endswith("_file") for name in spec.values):
        return "a policy gives secrets by name, not as a file"
    if spec.url and not hosts.permits_host(host_of(spec.url)):
        return "its host is not one of the setting sink_hosts"
    return "" if spec.kind != "file" or is_inside(spec.values["path"]) else f"its file is not below '{FOLDER}/'"


def is_inside(path: str) -> bool:
    """Whether a path in a policy names a file in the folder of sinks, by its text alone."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] == FOLDER and ".." not in parts
