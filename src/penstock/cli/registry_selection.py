"""Selects the client of a registry: the admin API of a running gateway, or the registry itself where none runs."""

from penstock.cli.addresses import location_in, may_use_configured_port, ops_address, read_settings, running_gateway
from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import CallFailed
from penstock.cli.console import ExitCode
from penstock.cli.registry_client import RegistryClient


def open_registry(url: str | None, registry: str | None) -> RegistryClient:
    """Return the client of the gateway at ``url`` or on the registry; without one, of the registry itself.

    Raises:
        CallFailed: the registry cannot be opened.
    """
    if url is not None:
        return AdminApiClient(ops_address(url))
    options = read_settings(registry)
    location = location_in(options)
    address = running_gateway(location, by_settings=registry is None and may_use_configured_port(options))
    if address:
        return AdminApiClient(address)
    from penstock.cli.local_registry import LocalRegistry

    return LocalRegistry(location, options)


def open_gateway(url: str | None, registry: str | None) -> AdminApiClient:
    """Return the client of the gateway at ``url`` or on the registry.

    Raises:
        CallFailed: no gateway runs.
    """
    if url is not None:
        return AdminApiClient(ops_address(url))
    options = read_settings(registry)
    address = running_gateway(location_in(options), by_settings=registry is None and may_use_configured_port(options))
    if address is None:
        raise CallFailed(
            "no gateway is running; start one with: penstock serve, or pass its address with --url",
            ExitCode.UNAVAILABLE,
        )
    return AdminApiClient(address)
