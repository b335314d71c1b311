"""Builds the console for the application of the ops port."""

from penstock.api.admin.access import AccessApi
from penstock.api.admin.admin import RegistryService
from penstock.api.admin.app import ConsoleParts, ControlPlaneService
from penstock.api.admin.traffic import TrafficApi
from penstock.api.console.errors import error_pages
from penstock.api.console.routes import list_routes
from penstock.api.console.services import ConsoleServices, GatewayFacts


def build_console(
    control: ControlPlaneService,
    registry: RegistryService,
    traffic: TrafficApi,
    access: AccessApi,
    facts: tuple[str, str, str],
) -> ConsoleParts:
    """Return the routes of the console and its pages for errors; ``facts`` are the version of the gateway and its
    addresses (host:port) for REST and gRPC."""
    services = ConsoleServices(control, registry, traffic, access.keys, GatewayFacts(*facts))
    return ConsoleParts(list_routes(services), error_pages(services.facts))
