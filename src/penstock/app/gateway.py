"""The start of `penstock serve`: checks what it was given, and runs the control process until a signal ends it."""

import asyncio
import logging
import os
from pathlib import Path

from penstock import __version__
from penstock.app import workers
from penstock.app.access import check_access
from penstock.app.certificates import certificates_of
from penstock.app.confinement import is_required, log_layers
from penstock.app.exposure import checked_exposure
from penstock.app.gateway_process import GatewayProcess
from penstock.app.hardening import tighten_home
from penstock.app.logs import log_warnings, set_up
from penstock.app.ops_listeners import OpsListeners
from penstock.app.repositories import check, identify_repositories, repositories_of
from penstock.app.service_manager import ServiceManager
from penstock.app.sink_configuration import checked_sink_configuration
from penstock.app.start_failures import GatewayExitCode, StartFailed
from penstock.config.settings import Settings, address_credentials, find_ignored_variables
from penstock.control.instance import directory, ports
from penstock.control.instance.acquire import open_instance
from penstock.control.sinks.plugins import load_plugins
from penstock.control.workers.prefork import WaitingWorkers
from penstock.core.errors import Fault, InvalidInput
from penstock.engine.confinement.child import require_confinement
from penstock.engine.scratch import sweep
from penstock.engine.threads import background_pool
from penstock.registry.location import location_of

log = logging.getLogger("penstock.app")

_OWN_BLOBS = (
    "version contents are stored in this gateway's home, where other gateways of the registry cannot read them; "
    "set 'blobs' to a bucket or folder that all gateways share"
)

_CODES = {
    "invalid": GatewayExitCode.USAGE,
    "not_ready": GatewayExitCode.UNAVAILABLE,
    "damaged": GatewayExitCode.INTEGRITY,
}


def serve(settings: Settings, waiting: WaitingWorkers) -> None:
    """Run the gateway until it is asked to stop; its first workers are those that wait.

    Raises:
        StartFailed: an option, the model folder, the registry, a port or the runtime directory cannot be used.
    """
    manager = ServiceManager(os.environ, os.getpid())
    exposure = checked_exposure(settings)
    _check_ready_file(settings.ready_file)
    set_up(settings.log_level, "control", address_credentials(settings), settings.log_format)
    log_warnings(find_ignored_variables(os.environ))
    load_plugins()
    try:
        repositories = repositories_of(settings)
        check_access(settings.auth)
        certificates = certificates_of(settings)
        location = location_of(settings.registry, settings.home, settings.blobs, identify_repositories(repositories))
        sinks = checked_sink_configuration(settings, location.home)
        host = ports.resolve(settings.host)
        homes = directory.open_homes(location.home, directory.list_bases(os.environ, os.geteuid()))
        models = (
            _served_text(settings, identify_repositories(repositories))
            if repositories
            else f"{location.database} {location.blobs}"
        )
        opening = open_instance(homes, workers.options_of(settings, exposure, location, host), models, __version__)
        with opening.given_up_on_failure():
            if not opening.adopted:  # adopted workers keep serving even if their files are gone
                check(repositories)
            ops = OpsListeners(settings, exposure, location.home)
    except InvalidInput as fault:
        raise StartFailed(fault.full_text, GatewayExitCode.USAGE) from None
    except ports.PortUnavailable as fault:
        raise StartFailed(str(fault), GatewayExitCode.USAGE if fault.usage else GatewayExitCode.FAILURE) from None
    except directory.RuntimeUnavailable as fault:
        raise StartFailed(str(fault)) from None
    tighten_home(location.home, settings.registry)
    log_layers(settings)
    require_confinement(is_required(settings))
    if location.hides_contents and not repositories:
        log.warning(_OWN_BLOBS)
    try:
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(background_pool(None, "background"))
            parts = opening, location, repositories, sinks, ops, waiting, manager, certificates
            runner.run(GatewayProcess(settings, exposure, *parts).run())
    except Fault as fault:
        raise StartFailed(fault.full_text, _CODES.get(fault.kind, GatewayExitCode.FAILURE)) from None


def _served_text(settings: Settings, repositories: str) -> str:
    """Return a text that identifies what is served: only workers of the same are adopted."""
    return f"{repositories}\n{settings.model_name}" if settings.model_name else repositories


def _check_ready_file(path: Path | None) -> None:
    """Remove an earlier ready file, so that its presence always means ready."""
    if path is None:
        return
    try:
        path.unlink(missing_ok=True)
        sweep(path.parent)
        if not os.access(path.parent, os.W_OK):
            raise FileNotFoundError
    except OSError:
        text = f"the ready file {path} cannot be written; choose another with --ready-file"
        raise StartFailed(text, GatewayExitCode.USAGE) from None
