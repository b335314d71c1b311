"""Gathers the captured rows of every gateway of a fleet, by the registry's database and the blobs that all share."""

import uuid
from contextlib import closing
from functools import cache, partial
from pathlib import Path

from penstock.control.retraining.fleet_rows import FleetRows
from penstock.control.retraining.row_source import AvailableRows, RowSource
from penstock.core.errors import Unsupported
from penstock.monitor.captured_rows import RowSelection
from penstock.registry.location import RegistryLocation
from penstock.registry.registry import open_blobs, open_store
from penstock.registry.stores.gateways import GatewayStore
from penstock.registry.stores.row_requests import RowRequestStore


def write_fleet_rows(location: RegistryLocation, selection: RowSelection, output: Path) -> AvailableRows:
    """Write the newest captured rows of all gateways as Parquet, up to a million rows or 1 GiB; without any there is no
    file. Waits up to two minutes for gateways that are alive.

    Raises:
        Unsupported: gateways do not share this registry.
        Fault: the database or the blobs cannot be used.
        OSError: the file cannot be written.
    """
    if not location.is_shared:
        raise Unsupported("--fleet needs a registry that gateways share: --registry postgresql://HOST/NAME")
    with closing(open_store(location).connections) as connections:
        requests, blobs = RowRequestStore(connections, by_leader=False), cache(partial(open_blobs, location))
        asker = f"capture-{uuid.uuid4()}"
        fleet = FleetRows(requests, GatewayStore(connections), blobs, asker, location.home)
        return RowSource(location.home, fleet).table(selection, output)
