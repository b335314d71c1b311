"""Selects the client of a registry: the admin API of a running gateway, or the registry itself where none runs."""

from penstock.cli.addresses import choose_location, may_use_configured_port, ops_address, read_settings, running_gateway
from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import CallFailed
from penstock.cli.console import ExitCode
from penstock.cli.registry_client import RegistryClient
from penstock.config.settings import Settings


def open_registry(url: str | None, registry: str | None) -> RegistryClient:
    """Return the client of the gateway at ``url`` or on the registry; without one, of the registry itself.

    Raises:
        CallFailed: the registry cannot be opened.
    """
    found = find_gateway(url, registry)
    if isinstance(found, AdminApiClient):
        return found
    from penstock.cli.local_registry import LocalRegistry

    return LocalRegistry(choose_location(found), found)


def find_gateway(url: str | None, registry: str | None) -> AdminApiClient | Settings:
    """Return the client of the gateway at ``url`` or on the registry; the settings if none runs."""
    if url is not None:
        return AdminApiClient(ops_address(url))
    options = read_settings(registry)
    address = running_gateway(
        choose_location(options), by_settings=registry is None and may_use_configured_port(options)
    )
    return options if address is None else AdminApiClient(address)


def open_gateway(url: str | None, registry: str | None) -> AdminApiClient:
    """Return the client of the gateway at ``url`` or on the registry.

    Raises:
        CallFailed: no gateway runs.
    """
    found = find_gateway(url, registry)
    if isinstance(found, AdminApiClient):
        return found
    raise CallFailed(
        "no gateway is running; start one with: penstock serve, or pass its address with --url", ExitCode.UNAVAILABLE
    )
