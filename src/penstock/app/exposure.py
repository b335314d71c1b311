"""How a gateway with given settings can be reached, and what follows: whether it starts, warns, and controls models."""

import logging
from collections.abc import Iterator

from penstock.app.start_failures import GatewayExitCode, StartFailed
from penstock.config.settings import Settings
from penstock.control.instance.ports import PortUnavailable, is_loopback, resolve
from penstock.control.periodic import PeriodicTask
from penstock.core.access.exposure import Exposure
from penstock.core.access.origins import ANY, OriginPolicy
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.app")

WARNING_INTERVAL_S = 60.0


def exposure_of(settings: Settings) -> Exposure:
    """Return how the gateway of these settings can be reached; its health port may be anywhere.

    Raises:
        StartFailed: a host is none.
    """
    auth = settings.auth
    return Exposure(
        hosts=tuple(host for host in dict.fromkeys((settings.host, settings.ops_host)) if not _is_loopback(host)),
        authenticates=auth is not None and not auth.dry_run,
        encrypts=settings.tls is not None,
        is_permitted=settings.insecure_no_auth,
    )


def checked_exposure(settings: Settings) -> Exposure:
    """Return how the gateway of these settings can be reached.

    Raises:
        StartFailed: others than this machine would reach it, without authentication or TLS.
    """
    exposure = exposure_of(settings)
    if exposure.is_refused:
        raise StartFailed(exposure.refusal(), GatewayExitCode.USAGE)
    return exposure


def _is_loopback(host: str) -> bool:
    try:
        return is_loopback(resolve(host))
    except PortUnavailable as fault:
        raise StartFailed(str(fault), GatewayExitCode.USAGE) from None


def trusted_hosts_of(settings: Settings, exposure: Exposure) -> tuple[str, ...]:
    """Return the hosts that requests may name: with authentication any, unless the settings name some."""
    if settings.trusted_hosts or not exposure.authenticates:
        return (*settings.trusted_hosts, *_find_host_names(settings.host), *_find_host_names(settings.ops_host))
    return (ANY,)


def _find_host_names(host: str) -> tuple[str, ...]:
    """Return the host to listen on if it is a name, which requests may then use."""
    return (host,) if any(character.isalpha() for character in host) and ":" not in host else ()


def ops_policy(settings: Settings, exposure: Exposure, host: str) -> OriginPolicy:
    """Return which hosts and origins requests to a port of the control process may state; it listens on ``host``."""
    return OriginPolicy(trusted_hosts_of(settings, exposure), any_address=not is_loopback(host))


def repository_control_of(settings: Settings, exposure: Exposure) -> bool:
    """Return whether clients of the data ports load models and register shared memory."""
    chosen = settings.repository_control
    return exposure.controls_repository if chosen is None else chosen


class InsecurityWarning:
    """Warns every minute while a gateway is insecure, and reports it as a metric."""

    def __init__(self, exposure: Exposure) -> None:
        self._exposure = exposure
        self.tasks = [PeriodicTask("insecure", self._warn, WARNING_INTERVAL_S)] if exposure.is_insecure else []

    async def _warn(self) -> None:
        log.warning("%s", self._exposure.warning())

    def readings(self) -> Iterator[Reading]:
        """Return whether others than this machine reach the gateway without authentication or TLS."""
        yield Point(metrics.INSECURE, (), self._exposure.is_insecure)
