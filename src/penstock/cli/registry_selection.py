"""Selects the client of a registry: the admin API of a running gateway, or the registry itself where none runs."""

from penstock.cli.addresses import address_of, leads_to_a_port, registry_place, running_gateway, settings
from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import CallFailed
from penstock.cli.console import Exit
from penstock.cli.registry_client import RegistryClient


def open_registry(url: str | None, registry: str | None) -> RegistryClient:
    """The gateway that was named or runs on the registry; where none does, the registry itself.

    Raises:
        CallFailed: it cannot be opened.
    """
    if url is not None:
        return AdminApiClient(address_of(url))
    found = settings(registry)
    place = registry_place(found)
    address = running_gateway(place, by_settings=registry is None and leads_to_a_port(found))
    if address:
        return AdminApiClient(address)
    from penstock.cli.local_registry import LocalRegistry

    return LocalRegistry(place, found)


def open_gateway(url: str | None, registry: str | None) -> AdminApiClient:
    """The gateway that was named or runs on the registry, for what only a gateway can do.

    Raises:
        CallFailed: none runs.
    """
    if url is not None:
        return AdminApiClient(address_of(url))
    found = settings(registry)
    address = running_gateway(registry_place(found), by_settings=registry is None and leads_to_a_port(found))
    if address is None:
        raise CallFailed(
            "no gateway runs here; start one with: penstock serve, or name one with --url", Exit.UNAVAILABLE
        )
    return AdminApiClient(address)
