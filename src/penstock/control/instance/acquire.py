"""Acquires an instance: finds earlier ones, reserves the ports, and creates the shared files."""

import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from penstock.control.instance import directory, ports
from penstock.control.instance.adoption import AdoptionPlan, Orphan, RequestedInstance, choose, held_ports, inspect
from penstock.control.instance.directory import Instance, RuntimeUnavailable
from penstock.control.instance.options import WorkerOptions, encode_options, make_fingerprint
from penstock.control.instance.ports import Address
from penstock.control.workers import slots

log = logging.getLogger("penstock.control")


@dataclass(slots=True)
class AcquiredInstance:
    """An instance that this process controls, its reserved ports, and earlier instances that it replaces."""

    instance: Instance
    options: WorkerOptions
    held: list[socket.socket]
    replaced: list[Instance] = field(default_factory=list)
    adopted: bool = False

    @contextmanager
    def given_up_on_failure(self) -> Iterator[None]:
        """Undo everything if the block fails."""
        try:
            yield
        except BaseException:
            for sock in self.held:
                sock.close()
            if self.adopted:
                self.instance.release()
            else:
                self.instance.remove()
            raise


def open_instance(homes: Sequence[Path], options: WorkerOptions, models: str, version: str) -> AcquiredInstance:
    """The instance to run: an orphan that does just what is wanted, or a new one.

    ``homes`` are the runtime directories of one home, best first; ``options`` state the wanted ports (0 = any).

    Raises:
        PortUnavailable: a port is somebody else's.
        RuntimeUnavailable: the file system of the shared files is full.
    """
    mark = make_fingerprint(options, models, version)
    with directory.hold_lock(homes[0].parent / "lock"):
        _sweep(homes)
        instances = [instance for home in homes for instance in directory.take_abandoned(home)]
        orphans = [inspect(instance) for instance in instances]
        choice = choose(orphans, RequestedInstance(mark, options.host, options.http_port, options.grpc_port))
        try:
            return _open(homes, options, mark, choice, instances, orphans)
        finally:
            _clear_away(choice, instances)


def _open(
    homes: Sequence[Path],
    options: WorkerOptions,
    mark: str,
    choice: AdoptionPlan,
    instances: Sequence[Instance],
    orphans: Sequence[Orphan],
) -> AcquiredInstance:
    with ExitStack() as undo:
        if choice.adopt is not None:
            adopted = orphans[choice.adopt].options or options
            held = _hold(adopted, {adopted.http_port, adopted.grpc_port}, undo)
            opening = AcquiredInstance(instances[choice.adopt], adopted, held, adopted=True)
        else:
            shared = {port for index in choice.replace for port in held_ports(orphans[index])}
            held = _hold(options, shared, undo)
            http, grpc = (ports.address_of(sock).port for sock in held)
            options = replace(options, http_port=http, grpc_port=grpc)
            opening = AcquiredInstance(
                _create(homes, options, mark), options, held, [instances[index] for index in choice.replace]
            )
        undo.pop_all()
    return opening


def _hold(options: WorkerOptions, shared: set[int], undo: ExitStack) -> list[socket.socket]:
    wanted = ((options.http_port, "--http-port"), (options.grpc_port, "--grpc-port"))
    return [
        undo.enter_context(ports.reserve(Address(options.host, port), flag, port in shared)) for port, flag in wanted
    ]


def _create(homes: Sequence[Path], options: WorkerOptions, mark: str) -> Instance:
    refusals = []
    for home in homes:
        instance = directory.create(home)
        try:
            for index in range(options.workers):
                slots.create(instance.slot(index))
            instance.write("instance", {"fingerprint": mark, "options": encode_options(options)})
        except OSError as error:
            instance.remove()
            if error.errno != errno.ENOSPC:
                raise
            refusals.append(str(home))
        else:
            return instance
    raise RuntimeUnavailable(f"the counters of {options.workers} workers do not fit into {', '.join(refusals)}")


def _sweep(homes: Sequence[Path]) -> None:
    """Release the memory of other homes' instances without control process and workers."""
    for home in homes:
        for other in directory.list_neighbours(home):
            with suppress(OSError):
                for instance in directory.take_abandoned(other):
                    instance.release() if inspect(instance).alive else instance.remove()
                other.rmdir()


def _clear_away(choice: AdoptionPlan, instances: Sequence[Instance]) -> None:
    for index, instance in enumerate(instances):
        if index in choice.stale:
            instance.remove()
        elif index != choice.adopt and index not in choice.replace:
            instance.release()
