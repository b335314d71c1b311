"""TLS of the command line's connections: the files of --ca-file, --cert-file and --key-file, and what is trusted."""

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from penstock.cli.console import ExitCode, fail
from penstock.core.texts import make_legible

HTTPS: Final = "https://"
PORT: Final = 443
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TlsAddress:
    """HOST:PORT of a port with TLS. ``certificate`` is the certificate file of a gateway on this machine: it is trusted
    itself then, whatever names it has; None: an authority vouches for it."""

    address: str
    certificate: Path | None = None

    def __str__(self) -> str:
        return f"{HTTPS}{self.address}"

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The host, without brackets, and the port."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """The authorities that vouch for gateways (None: those of the system), and the client's certificate and key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


_files = [ClientFiles()]
"""The files of the present command, last, in a process that runs one at a time."""


@contextmanager
def using_files(ca: Path | None, certificate: Path | None, key: Path | None) -> Iterator[None]:
    """Use these files for every connection of the block.

    Raises:
        typer.Exit: there is a certificate without its key, or a key without its certificate.
    """
    if (certificate is None) != (key is None):
        fail("--cert-file and --key-file belong together; give both", ExitCode.USAGE)
    _files.append(ClientFiles(ca, certificate, key))
    try:
        yield
    finally:
        _files.pop()


def client_context(address: TlsAddress) -> ssl.SSLContext:
    """Return the context for a connection.

    Raises:
        typer.Exit: a file of the options cannot be used.
        OSError: the certificate of the gateway cannot be read.
    """
    files = _files[-1]
    context = _trust_authority(address, files.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None:
        try:
            context.load_cert_chain(files.certificate, files.key, _refuse_password)
        except (OSError, ValueError) as error:
            fail(f"--cert-file and --key-file cannot be used: {_describe_reason(error)}", ExitCode.USAGE)
    return context


def read_roots(address: TlsAddress) -> bytes | None:
    """Return the certificates that gRPC is to trust as PEM, None for its own list.

    Raises:
        typer.Exit: --ca-file cannot be read.
        OSError: the certificate of the gateway cannot be read.
    """
    ca = _files[-1].ca
    if ca is not None:
        _check_authorities(ca)
        return ca.read_bytes()
    if address.certificate is not None:
        return _read_first_certificate(address.certificate).encode()
    system = ssl.get_default_verify_paths().cafile
    return Path(system).read_bytes() if system else None


def read_pair() -> tuple[bytes | None, bytes | None]:
    """Return the key and the certificate of the client as PEM, for gRPC.

    Raises:
        typer.Exit: a file cannot be read.
    """
    files = _files[-1]
    if files.key is None or files.certificate is None:
        return None, None
    try:
        return files.key.read_bytes(), files.certificate.read_bytes()
    except OSError as error:
        fail(f"--cert-file and --key-file cannot be used: {_describe_reason(error)}", ExitCode.USAGE)


def name_to_verify(address: TlsAddress, timeout_s: float) -> str | None:
    """Return a name in the certificate of a gateway that is trusted by its file, for gRPC, which checks names always;
    None if an authority vouches for it.

    Raises:
        OSError: the gateway does not answer, or presents another certificate.
    """
    if address.certificate is None or _files[-1].ca is not None:
        return None
    context = client_context(address)
    context.set_alpn_protocols(["h2"])
    host_and_port = address.host_and_port
    with (
        socket.create_connection(host_and_port, timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=host_and_port[0]) as wire,
    ):
        stated: Any = (wire.getpeercert() or {}).get("subjectAltName", ())
    names = [str(name) for kind, name in stated if kind in {"DNS", "IP Address"}]
    return names[0].replace("*", "any", 1) if names else None


def explain(error: Exception) -> str:
    """Return why a connection failed, and what to do where TLS is the reason; fit for a terminal, whatever answered."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; pass --ca-file with the authority it is from"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {_describe_reason(error)}; a gateway may ask for --cert-file and --key-file"
    return make_legible(str(error)) or type(error).__name__


def _trust_authority(address: TlsAddress, ca: Path | None) -> ssl.SSLContext:
    if ca is None and address.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is the anchor
        context.load_verify_locations(cadata=_read_first_certificate(address.certificate))
        return context
    if ca is not None:
        _check_authorities(ca)
    return ssl.create_default_context(cafile=ca)


def _check_authorities(ca: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca)
    except (OSError, ValueError) as error:
        fail(f"--ca-file {ca} cannot be used: {_describe_reason(error)}", ExitCode.USAGE)


def _read_first_certificate(file: Path) -> str:
    """Return the first certificate of a chain as PEM; raises ``OSError``."""
    found = _PEM.search(file.read_text(errors="replace"))
    if found is None:
        raise OSError(f"{file} has no certificate")
    return found[0]


def _refuse_password() -> str:
    raise ValueError("the key has a password; expected one without")


def _describe_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
