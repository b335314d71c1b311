"""Certificates: what a server's side of TLS is made of, the names in a client's certificate, and when one expires."""

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

MAX_NAMES: Final = 64
MAX_NAME_CHARACTERS: Final = 2048
"""Names of one certificate that are read, and characters of the longest; a SPIFFE ID has at most 2048."""

_KINDS: Final = ("URI", "DNS", "email")
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18  # tags of DER
_BEFORE_VALIDITY: Final = 3  # serial number, signature algorithm, issuer
_PIVOT: Final = 50


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What a port needs for TLS, as PEM: the certificate chain, its key, and the authorities whose client certificates
    are accepted ("" = none is asked for); ``client_required`` refuses clients without one."""

    certificate: str
    key: str = field(repr=False)
    client_ca: str = ""
    client_required: bool = False


def read_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a verified certificate, in the form of ``ssl.SSLSocket.getpeercert``: URIs (such as SPIFFE
    IDs), then DNS names in lower case, then e-mail addresses. Names that are not printable ASCII are left out."""
    alternatives = certificate.get("subjectAltName", ())
    names = [_normalise(kind, text) for kind in _KINDS for stated, text in alternatives if stated == kind]
    return tuple(dict.fromkeys(filter(_is_usable, names)))[:MAX_NAMES]


def _normalise(kind: str, text: str) -> str:
    return text.lower() if kind == "DNS" else text


def _is_usable(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARACTERS and name.isascii() and name.isprintable() and " " not in name


def read_certificates(pem: str) -> list[bytes]:
    """Return the certificates of a PEM text in DER form.

    Raises:
        ValueError: one is not valid Base64.
    """
    return [b64decode("".join(block.split()), validate=True) for block in _PEM.findall(pem)]


def earliest_expiry(pem: str) -> float | None:
    """Return when the first certificate of a PEM text expires, in seconds since the epoch; None if it has none.

    Raises:
        ValueError: a certificate is malformed.
    """
    return min(map(read_expiry, read_certificates(pem)), default=None)


def read_expiry(certificate: bytes) -> float:
    """Return the ``notAfter`` of an X.509 certificate in DER form (RFC 5280, section 4.1), in seconds since the epoch.

    Raises:
        ValueError: the certificate is malformed.
    """
    try:
        tag, start, stop = _not_after(certificate)
        return _parse_time(tag, certificate[start:stop].decode("ascii"))
    except IndexError:
        raise ValueError("the certificate is cut off") from None


def _not_after(certificate: bytes) -> tuple[int, int, int]:
    """Return the tag of the element, and where its content begins and ends."""
    _, at, _ = _read_element(certificate, 0)  # Certificate
    _, at, _ = _read_element(certificate, at)  # TBSCertificate
    tag, _, stop = _read_element(certificate, at)
    at = stop if tag == _VERSION else at
    for _ in range(_BEFORE_VALIDITY):
        _, _, at = _read_element(certificate, at)
    _, at, _ = _read_element(certificate, at)  # Validity
    _, _, at = _read_element(certificate, at)  # notBefore
    return _read_element(certificate, at)


def _read_element(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the DER element at an index, and where its content begins and ends."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[start : start + size])
        start += size
    return tag, start, start + length


def _parse_time(tag: int, text: str) -> float:
    if tag == _UTC_TIME:
        text = f"{'19' if int(text[:2]) >= _PIVOT else '20'}{text}"
    if tag not in (_UTC_TIME, _GENERALIZED_TIME) or len(text) != len("20301231235959Z"):
        raise ValueError("the certificate has no notAfter in the form of RFC 5280")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
