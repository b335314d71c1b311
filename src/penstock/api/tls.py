"""The TLS of all ports: contexts of TLS 1.2 and 1.3, replaced whole when the certificate or an authority changes."""

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from penstock.core.certificates import TlsMaterial, earliest_expiry, read_names
from penstock.core.errors import InvalidInput

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Suites of TLS 1.2 that HTTP/2 does not prohibit (RFC 9113, section 9.2.2): forward secrecy and authenticated
encryption, no CBC, no key exchange by RSA. Those of TLS 1.3 are all of this kind."""

NO_CERTIFICATE: Final = "tls: the certificate or its key cannot be used"
NO_AUTHORITY: Final = "auth.mtls: client_ca cannot be used"

ContextSource = Callable[[], ssl.SSLContext]
"""Returns the context for a new connection."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The verified certificate of a client: its names (see ``read_names``), and when it expires (epoch seconds)."""

    names: tuple[str, ...]
    expires_at: float

    def left_ns(self) -> int:
        """Return the time until it expires, in nanoseconds; negative afterwards."""
        return int((self.expires_at - time.time()) * 1e9)


@dataclass(frozen=True, slots=True)
class _Loaded:
    http: ssl.SSLContext
    grpc: ssl.SSLContext
    expires_at: float
    authority_expires_at: float | None


class TlsContexts:
    """The contexts of a process's ports. ``use`` affects new connections; open ones keep theirs.

    A session is not resumed across a change, so that a client is verified by the present authorities. One thread
    replaces, any may read. ``now`` gives seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._loaded: _Loaded | None = None

    def use(self, material: TlsMaterial) -> None:
        """Use other material for new connections.

        Raises:
            InvalidInput: it cannot be used, or has expired while the present one has not; the contexts stay.
        """
        expires_at = _read_expiry(material.certificate, NO_CERTIFICATE)
        if self._loaded is not None and expires_at <= self._now() < self._loaded.expires_at:
            raise InvalidInput(f"{NO_CERTIFICATE}: it has expired")
        authority = _read_expiry(material.client_ca, NO_AUTHORITY) if material.client_ca else None
        self._loaded = _Loaded(
            _make_context(material, "http/1.1"), _make_context(material, "h2"), expires_at, authority
        )

    def http(self) -> ssl.SSLContext:
        """Return the context of HTTP/1.1 for a new connection; raises ``RuntimeError`` if none is loaded."""
        return self._current().http

    def grpc(self) -> ssl.SSLContext:
        """Return the context of HTTP/2 for a new connection; raises ``RuntimeError`` if none is loaded."""
        return self._current().grpc

    @property
    def expires_at(self) -> float:
        """When the first certificate of the chain expires (epoch seconds); raises ``RuntimeError`` as above."""
        return self._current().expires_at

    @property
    def authority_expires_at(self) -> float | None:
        """When the first client authority expires (epoch seconds), None without one."""
        return self._current().authority_expires_at

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise RuntimeError("a port with TLS was opened before its certificate was loaded")
        return self._loaded


def read_client_certificate(certificate: object) -> ClientCertificate | None:
    """Return the certificate of a client from ``get_extra_info("peercert")``, None if it sent none."""
    if not isinstance(certificate, dict) or not certificate:
        return None
    return ClientCertificate(read_names(certificate), ssl.cert_time_to_seconds(certificate["notAfter"]))


def _read_expiry(pem: str, problem: str) -> float:
    """Return when the first of these certificates expires; without this check, OpenSSL accepts a file without any."""
    try:
        expires_at = earliest_expiry(pem)
    except ValueError as error:
        raise InvalidInput(f"{problem}: {error}") from None
    if expires_at is None:
        raise InvalidInput(f"{problem}: expected certificates in PEM form")
    return expires_at


def _make_context(material: TlsMaterial, protocol: str) -> ssl.SSLContext:
    """Return the context of a port that speaks ``protocol`` (its name in ALPN)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9113, section 9.2.1
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols([protocol])
    try:
        _load_pair(context, material)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{NO_CERTIFICATE}: {_shorten_reason(error)}") from None
    if material.client_ca:
        _verify_clients(context, material)
    return context


def _load_pair(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Load chain and key; the library takes names of files only."""
    with _in_memory(material.certificate) as chain, _in_memory(material.key) as key:
        context.load_cert_chain(chain, key, _refuse_password)


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the name of a file in memory with this text."""
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(handle, text.encode())
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _refuse_password() -> str:
    raise ValueError("the key has a password; expected one without")


def _verify_clients(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Verify the certificates of clients. An intermediate authority is enough, as in Kubernetes."""
    try:
        context.load_verify_locations(cadata=material.client_ca)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{NO_AUTHORITY}: {_shorten_reason(error)}") from None
    context.verify_mode = ssl.CERT_REQUIRED if material.client_required else ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.num_tickets = 0  # with TLS 1.3, each handshake verifies


def _shorten_reason(error: Exception) -> str:
    """Return why a text cannot be used, without the place in OpenSSL's source."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not in PEM form").replace("_", " ").lower()
    return str(error)
