"""Finds the gateway on this machine: by the socket or the record in its home folder, or by the settings."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Literal

from penstock.app.owner_socket import NAME
from penstock.cli.connections import Address, open_connection
from penstock.cli.console import ExitCode, fail
from penstock.cli.tls import TlsAddress
from penstock.config.documents import ConfigFault
from penstock.config.settings import Settings, load_settings
from penstock.control.instance.ports import LOOPBACK_OF, local_form
from penstock.core.errors import InvalidInput
from penstock.registry.location import RegistryLocation, location_of

PROBE_S = 2.0
HTTPS_PORT: Final = 443
MAX_PORT: Final = 65535
_UNIX = "unix:"
_HOST = r"\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]+"
_ADDRESS = re.compile(rf"(?:http://)?((?:{_HOST}):[0-9]{{1,5}})/?")
_HTTPS = re.compile(rf"https://({_HOST})(?::([0-9]{{1,5}}))?/?")
_REFUSALS = (401, 403, 429)


def read_settings(registry: str | None = None) -> Settings:
    """Return the settings of the environment and its configuration file; ``registry`` overrides theirs.

    Raises:
        typer.Exit: they are invalid.
    """
    file = os.environ.get("PENSTOCK_CONFIG")
    try:
        return load_settings(Path(file) if file else None, {"registry": registry})
    except ConfigFault as fault:
        fail(str(fault), ExitCode.USAGE)


def local_address(port: Literal["http", "grpc", "ops"]) -> str | TlsAddress:
    """Return the address of a port in the settings; with TLS if they have it, or if the gateway's record says so.

    Raises:
        typer.Exit: the settings are invalid.
    """
    options = read_settings()
    ports = {"http": options.http_port, "grpc": options.grpc_port, "ops": options.ops_port}
    host = options.ops_host if port == "ops" else options.host
    host = LOOPBACK_OF.get(host, host)
    address = f"[{host}]:{ports[port]}" if ":" in host else f"{host}:{ports[port]}"
    if options.tls is not None:
        return TlsAddress(address, options.tls.certificate_file.expanduser())
    recorded = _read_record(choose_location(options))
    return _recorded_address(address, recorded) if _port_of(recorded.get(port)) == ports[port] else address


def ops_address(url: str) -> Address:
    """Return the address of an ops port, or of the socket ``unix:PATH``, given with --url.

    Raises:
        typer.Exit: it is of neither form.
    """
    text = url.strip()
    return Path(text.removeprefix(_UNIX)).absolute() if text.startswith(_UNIX) else address_of(text)


def address_of(url: str) -> str | TlsAddress:
    """Return the address given with --url: HOST:PORT, or https://HOST:PORT.

    Raises:
        typer.Exit: it is of neither form.
    """
    text = url.strip()
    plain, secure = _ADDRESS.fullmatch(text), _HTTPS.fullmatch(text)
    address = plain[1] if plain else f"{secure[1]}:{secure[2] or HTTPS_PORT}" if secure else ""
    if not address or _port_of(address) > MAX_PORT:
        fail(f"--url: expected HOST:PORT or https://HOST:PORT (got '{url}')", ExitCode.USAGE)
    return TlsAddress(address) if secure else address


def choose_location(options: Settings) -> RegistryLocation:
    """Return the location of the registry in the settings.

    Raises:
        typer.Exit: the location is invalid.
    """
    try:
        return location_of(options.registry, options.home, options.blobs)
    except InvalidInput as fault:
        fail(str(fault), ExitCode.USAGE)


def running_gateway(location: RegistryLocation, by_settings: bool) -> Address | None:
    """Return the owner's socket or the ops address of the gateway that runs on a home, else, if ``by_settings``, the
    configured address."""
    socket = location.home / NAME
    if _is_answering(socket):
        return socket
    recorded = _read_record(location)
    if recorded and _is_answering(address := _recorded_address(str(recorded["ops"]), recorded)):
        return address
    if not by_settings:
        return None
    address = local_address("ops")
    return address if _is_answering(address) else None


def page_address(url: str | None, registry: str | None) -> str:
    """Return the address of the console, for a browser: at ``url``, or of the gateway on the registry.

    Raises:
        typer.Exit: ``url`` is a socket, or no gateway answers.
    """
    address = _page_port(url, registry)
    if address is None or not _is_answering(address):
        fail(
            "no gateway is running; start one with: penstock serve, or pass the address of its ops port with --url",
            ExitCode.UNAVAILABLE,
        )
    return f"{address if isinstance(address, TlsAddress) else f'http://{address}'}/console/"


def _page_port(url: str | None, registry: str | None) -> str | TlsAddress | None:
    if url is not None:
        found = ops_address(url)
        if isinstance(found, Path):
            fail("--url: a browser needs HOST:PORT of the ops port, not a socket", ExitCode.USAGE)
        return address_of(url)
    options = read_settings(registry)
    if recorded := _read_record(choose_location(options)):
        return _recorded_address(local_form(str(recorded["ops"])), recorded)
    return local_address("ops") if registry is None and may_use_configured_port(options) else None


def health_address() -> Address:
    """Return where to ask for the health of the gateway of the settings: its owner's socket, if it has one.

    Raises:
        typer.Exit: the settings are invalid.
    """
    options = read_settings()
    socket = choose_location(options).home / NAME
    return socket if may_use_socket(options) and socket.is_socket() else local_address("ops")


def may_use_socket(options: Settings) -> bool:
    """Whether the gateway on the home is the one that is meant: no other address is in the settings."""
    return not options.given & {"ops_port", "ops_host"}


def may_use_configured_port(options: Settings) -> bool:
    """Whether the gateway at the configured ops address is the one that is meant.

    A home or registry in the settings means that one, not another gateway that has the default port.
    """
    explicit = options.given
    return "ops_port" in explicit or not explicit & {"home", "registry"}


def _read_record(location: RegistryLocation) -> dict[str, Any]:
    """Return what the gateway that runs on a home has written there; {} if none runs."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        recorded: dict[str, Any] = json.loads((location.home / "gateway.json").read_text())
        if _is_alive(recorded["pid"]) and recorded["ops"]:
            return recorded
    return {}


def _recorded_address(address: str, recorded: Mapping[str, Any]) -> str | TlsAddress:
    file = recorded.get("certificate_file")
    return TlsAddress(address, Path(file)) if file else address


def _port_of(address: object) -> int:
    """Return the port in a HOST:PORT, -1 for anything else."""
    port = str(address).rpartition(":")[2]
    return int(port) if port.isdecimal() else -1


def _is_alive(pid: int) -> bool:
    """Whether the process of a record still runs; otherwise its port may belong to another gateway."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _is_answering(address: Address) -> bool:
    """Whether a Penstock ops port answers at an address."""
    connection = open_connection(address, PROBE_S)
    try:
        connection.request("GET", "/admin/v1/registry")
        answer = connection.getresponse()
        if answer.status in _REFUSALS:  # it asks for a credential, or for another one
            return answer.headers["penstock-fault"] is not None
        return answer.status == 200 and "source" in json.loads(answer.read())
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
