"""The first steps of `penstock serve`, in an order that makes the start short: the process is prepared, the settings
are read, the workers are forked with their imports, and only then the gateway is imported.

No import of this file may start a thread or load numpy before the environment is set for it.
"""

import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.hardening import protect_process, provide_user_folder
from penstock.app.start_failures import GatewayExitCode, StartFailed
from penstock.control.workers.environment import LIBRARY_THREADS, MALLOC, TUNABLES
from penstock.engine import heap
from penstock.engine.method_cache import GATEWAY, MethodCache, cache_file

if TYPE_CHECKING:
    from penstock.config.platforms import ServingPlatform
    from penstock.config.settings import Settings
    from penstock.control.workers.prefork import WaitingWorkers


def launch(file: Path | None, flags: Mapping[str, Any]) -> None:
    """Run a gateway until it is asked to stop; see ``load_settings`` for the arguments.

    Raises:
        StartFailed: the settings or what they name cannot be used.
    """
    cache = MethodCache(cache_file(GATEWAY))
    with _without_collections():
        if os.environ.get(TUNABLES) == MALLOC:
            del os.environ[TUNABLES]  # the commands of sinks have heaps of their own
        heap.allow_huge_pages(False)
        provide_user_folder()
        with cache.in_use():
            settings = _load_settings(file, flags)
        protect_process()  # before the first worker: its children inherit it
        _remove_secrets(settings)
        with _single_threads():
            waiting = _fork_workers(settings, cache)
        heap.share_one_arena()  # after the fork: models run on threads of workers
        with cache.in_use():
            from penstock.app.gateway import serve  # noqa: PLC0415 - after the workers were forked
        cache.save()
        gc.freeze()
    with closing(waiting):
        serve(settings, waiting)


def _load_settings(file: Path | None, flags: Mapping[str, Any]) -> "Settings":
    from penstock.config.documents import ConfigFault  # noqa: PLC0415 - imported while nothing is collected
    from penstock.config.settings import load_settings  # noqa: PLC0415

    platform = _find_platform(flags)
    try:
        settings = load_settings(file, flags, None if platform is None else platform.settings)
    except ConfigFault as fault:
        raise StartFailed(str(fault), GatewayExitCode.USAGE) from None
    if platform is not None:
        if platform.problem and not settings.models and not settings.registry:
            raise StartFailed(platform.problem, GatewayExitCode.USAGE)
        sys.stderr.write(f"penstock: serving as a container of {platform.name}; its variables are the defaults\n")
    return settings


def _find_platform(flags: Mapping[str, Any]) -> "ServingPlatform | None":
    """Return the cloud that started this program, which is recognised only without options: SageMaker starts a
    container with the word ``serve`` alone, and a command line that says more is somebody else's.

    Raises:
        StartFailed: a variable of the cloud has no value that can be used.
    """
    from penstock.config.platforms import find_platform  # noqa: PLC0415

    if any(value is not None for value in flags.values()):
        return None
    try:
        return find_platform(os.environ, _read_folder)
    except ValueError as fault:
        raise StartFailed(str(fault), GatewayExitCode.USAGE) from None


def _read_folder(path: str) -> Sequence[str] | None:
    try:
        return [entry.name for entry in Path(path).iterdir()]
    except OSError:
        return None


def _remove_secrets(settings: "Settings") -> None:
    """Remove secrets from the environment, before workers and commands could get it."""
    for secret in settings.secrets.values():
        os.environ.pop(secret.env or "", None)


def _fork_workers(settings: "Settings", cache: MethodCache) -> "WaitingWorkers":
    """Fork the first workers; none where this process has read secrets, which would be in their memory as well."""
    with cache.in_use():  # and not in the memory of workers
        from penstock.app import workers  # noqa: PLC0415 - numpy needs the environment
        from penstock.control.workers import prefork  # noqa: PLC0415

        if any(secret.env is not None for secret in settings.secrets.values()):
            return prefork.WaitingWorkers()
        program = import_module(workers.WORKER_MODULE)
    return prefork.fork_workers(workers.worker_count(settings), program.main)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Do not collect garbage: imports leave none, and looking for it takes a tenth of their time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _single_threads() -> Iterator[None]:
    """Let libraries that are loaded here start no threads: a process with threads cannot be forked."""
    added = [name for name in LIBRARY_THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
