"""What the pages of the console are built from: the same services that the admin API calls."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request

from penstock.api.admin.access import KeyService
from penstock.api.admin.admin import RegistryService
from penstock.api.admin.app import ControlPlaneService
from penstock.api.admin.traffic import TrafficApi
from penstock.api.console.markup import Markup


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """Facts that do not change while the gateway runs: its version and its addresses (host:port)."""

    version: str
    http: str
    grpc: str


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """The services of one gateway, with the facts that every page shows."""

    control: ControlPlaneService
    registry: RegistryService
    traffic: TrafficApi
    keys: KeyService
    facts: GatewayFacts


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a page that its view renders: its title, and what is below the heading."""

    title: str
    body: Markup


BuildPage = Callable[[ConsoleServices, Request, Mapping[str, str]], Awaitable[Page]]
"""Builds a page of the services, for a request, from the parameters in its path. May raise a ``Fault``."""
