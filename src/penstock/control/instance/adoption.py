"""Decides what happens to instances without a control process: a pure choice, and its inputs."""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from penstock.control.instance.directory import Instance
from penstock.control.instance.options import WorkerOptions, options_in
from penstock.control.workers.slots import SlotFile, SlotLock
from penstock.monitor.counters.slot import DRAINING

ANY_HOST = {"0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class Orphan:
    """An instance without a control process; ``options`` is None if its directory is incomplete. ``alive``: some of its
    workers live. ``serving``: and none of them drains."""

    fingerprint: str = ""
    options: WorkerOptions | None = None
    alive: bool = False
    serving: bool = False


@dataclass(frozen=True, slots=True)
class RequestedInstance:
    """What the new control process was started to run; port 0 takes any."""

    fingerprint: str
    host: str
    http_port: int
    grpc_port: int


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """Indices of orphans: the one to adopt, those to replace, those to remove; the others are ignored."""

    adopt: int | None = None
    replace: tuple[int, ...] = ()
    stale: tuple[int, ...] = ()


def choose(orphans: Sequence[Orphan], wanted: RequestedInstance) -> AdoptionPlan:
    """Adopt the workers that do exactly what is requested; replace those that only hold its ports."""
    stale = tuple(index for index, orphan in enumerate(orphans) if not orphan.alive or orphan.options is None)
    rest = [(index, orphan) for index, orphan in enumerate(orphans) if index not in stale]
    adopt = next((index for index, item in rest if _is_same(item, wanted)), None)
    replace = tuple(index for index, item in rest if index != adopt and _shares_port(item, wanted))
    return AdoptionPlan(adopt, replace, stale)


def _is_same(orphan: Orphan, wanted: RequestedInstance) -> bool:
    if orphan.options is None or not orphan.serving or orphan.fingerprint != wanted.fingerprint:
        return False
    http, grpc = orphan.options.http_port, orphan.options.grpc_port
    return wanted.http_port in {0, http} and wanted.grpc_port in {0, grpc}


def _shares_port(orphan: Orphan, wanted: RequestedInstance) -> bool:
    if orphan.options is None or not _shares_host(orphan.options.host, wanted.host):
        return False
    return bool({wanted.http_port, wanted.grpc_port} & held_ports(orphan))


def _shares_host(held: str, wanted: str) -> bool:
    return held == wanted or not ANY_HOST.isdisjoint((held, wanted))


def held_ports(orphan: Orphan) -> set[int]:
    """Return the ports that an orphan's workers listen on."""
    return set() if orphan.options is None else {orphan.options.http_port, orphan.options.grpc_port}


def inspect(instance: Instance) -> Orphan:
    """Return the facts of an instance whose lock this process holds."""
    stored = instance.read("instance")
    alive, draining = False, False
    for path in instance.slots():
        with suppress(OSError), closing(SlotLock(path)) as lock:
            if lock.owner():
                alive, draining = True, draining or _is_draining(path)
    try:
        options = options_in(stored["options"])
    except (KeyError, TypeError):
        options = None
    return Orphan(str(stored.get("fingerprint", "")), options, alive, alive and not draining)


def _is_draining(path: Path) -> bool:
    """Whether the worker of a slot drains; one of another release, whose memory cannot be read, is taken to serve."""
    try:
        with closing(SlotFile(path, writable=False)) as file:
            return file.slot.state == DRAINING
    except ValueError:
        return False
