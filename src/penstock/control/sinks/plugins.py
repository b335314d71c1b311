"""All kinds of sinks by name: built-in ones, and those of other packages by entry points."""

import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from penstock.control.sinks.base import Sink, SinkContext
from penstock.control.sinks.command import run_command
from penstock.control.sinks.file import append_to_file
from penstock.control.sinks.http_apis import (
    send_to_airflow,
    send_to_alertmanager,
    send_to_argo,
    send_to_github,
    send_to_kubeflow,
    send_to_prefect,
)
from penstock.control.sinks.nats import publish_to_nats
from penstock.control.sinks.webhook import send_to_webhook
from penstock.core.sinks import FIELDS, SinkSpec
from penstock.registry.records import Document

log = logging.getLogger("penstock.control")

GROUP = "penstock.sinks"
"""The group of entry points for sinks of other packages."""

_SENDERS: dict[str, Callable[[Mapping[str, Any], Document, SinkContext], None]] = {
    "webhook": send_to_webhook,
    "file": append_to_file,
    "command": run_command,
    "airflow": send_to_airflow,
    "prefect": send_to_prefect,
    "github": send_to_github,
    "argo": send_to_argo,
    "kubeflow": send_to_kubeflow,
    "nats": publish_to_nats,
    "alertmanager": send_to_alertmanager,
}


def send(spec: SinkSpec, event: Document, context: SinkContext) -> None:
    """Send one event. Blocks until the other side has it.

    Raises:
        SinkFault: it did not arrive, or nobody knows whether it did.
    """
    own = context.of(spec)
    with context.traces.delivering(spec.kind, event) as traceparent:
        _SENDERS[spec.kind](spec.values, event, replace(own, traceparent=traceparent))


def load_plugins() -> None:
    """Load the sinks of other packages; log and skip those that cannot be loaded."""
    if not may_have_plugins(sys.path):
        return
    for entry in metadata.entry_points(group=GROUP):
        if entry.name in _SENDERS:
            continue  # a package cannot take the place of what is here
        try:
            found: Sink = entry.load()()
            fields, send_it = dict(found.fields), found.send
        except Exception:
            log.exception("the sink '%s' cannot be loaded", entry.name)
            continue
        FIELDS[entry.name] = fields
        _SENDERS[entry.name] = send_it


def may_have_plugins(paths: Sequence[str]) -> bool:
    """Return whether a package on these paths may state a sink. It costs a third of reading what all packages state,
    which is 2 % of a start with three hundred packages.

    A path that is no plain folder, such as an archive, may.
    """
    return any(path.endswith(".egg") or Path(path).is_file() or _states_sink(path) for path in paths)


def _states_sink(folder: str) -> bool:
    with suppress(OSError), os.scandir(folder or ".") as entries:
        packages = [entry.path for entry in entries if entry.name.lower().endswith((".dist-info", ".egg-info"))]
        return any(GROUP.encode() in _read_entry_points(package) for package in packages)
    return False


def _read_entry_points(package: str) -> bytes:
    with suppress(OSError), io.FileIO(f"{package}/entry_points.txt") as file:
        return file.readall()
    return b""
