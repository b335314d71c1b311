"""Where a gateway on this machine is to be found: by the settings, or by the record of the home it runs on."""

import json
import os
import re
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Literal

from penstock.cli.console import Exit, fail
from penstock.config.documents import ConfigFault
from penstock.config.settings import Settings, load_settings
from penstock.core.errors import InvalidInput
from penstock.registry.location import RegistryLocation, location_of

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
"""Hosts that mean every interface, and the one to call then."""

PROBE_S = 2.0
_ADDRESS = re.compile(r"(?:http://)?((?:\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]+):[0-9]{1,5})/?")


def settings(registry: str | None = None) -> Settings:
    """The settings of the environment and of the file it names; ``registry`` is a flag.

    Raises:
        typer.Exit: they cannot be used.
    """
    file = os.environ.get("PENSTOCK_CONFIG")
    try:
        return load_settings(Path(file) if file else None, {"registry": registry})
    except ConfigFault as fault:
        fail(str(fault), Exit.USAGE)


def local_address(port: Literal["http", "grpc", "ops"]) -> str:
    """The host:port that the settings give, the defaults otherwise.

    Raises:
        typer.Exit: the settings cannot be used.
    """
    found = settings()
    ports = {"http": found.http_port, "grpc": found.grpc_port, "ops": found.ops_port}
    return f"{EVERYWHERE.get(found.host, found.host)}:{ports[port]}"


def address_of(url: str) -> str:
    """The host:port that a person gave with --url.

    Raises:
        typer.Exit: it is none.
    """
    matched = _ADDRESS.fullmatch(url.strip())
    if matched is None or int(matched[1].rpartition(":")[2]) > 65535:
        fail(f"--url: expected HOST:PORT (got '{url}')", Exit.USAGE)
    return matched[1]


def registry_place(found: Settings) -> RegistryLocation:
    """Where the registry lies that the settings mean.

    Raises:
        typer.Exit: it can lie nowhere.
    """
    try:
        return location_of(found.registry, found.home, found.blobs)
    except InvalidInput as fault:
        fail(str(fault), Exit.USAGE)


def running_gateway(place: RegistryLocation, by_settings: bool) -> str | None:
    """The ops address of the gateway that runs on a home, or else, ``by_settings``, at the settings' own address."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        recorded = json.loads((place.home / "gateway.json").read_text())
        if _is_alive(recorded["pid"]) and _answers(recorded["ops"]):
            return str(recorded["ops"])
    if not by_settings:
        return None
    address = local_address("ops")
    return address if _answers(address) else None


def leads_to_a_port(found: Settings) -> bool:
    """Whether a gateway may be looked for at the settings' own address.

    Somebody who names a home or a registry means that one, not whichever gateway has the usual port.
    """
    stated = found.model_fields_set
    return "ops_port" in stated or not stated & {"home", "registry"}


def _is_alive(pid: int) -> bool:
    """Whether the process that left a record still runs: its port may be another gateway's by now."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _answers(address: str) -> bool:
    """Whether a Penstock's ops port answers there."""
    connection = HTTPConnection(address, timeout=PROBE_S)
    try:
        connection.request("GET", "/admin/v1/registry")
        answer = connection.getresponse()
        return answer.status == 200 and "source" in json.loads(answer.read())
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
