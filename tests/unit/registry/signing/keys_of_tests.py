"""Keys and certificates that the tests of signatures make."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
BEGAN = datetime(2020, 1, 1, tzinfo=UTC)


@cache
def private_key(kind: str = "P-256", number: int = 0) -> Any:
    """Return a key of a kind; another number is another key."""
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(CURVES[kind])


def private_pem(key: Any) -> bytes:
    """Return a private key as PEM."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def certificate(
    key: Any, name: str, issuer: tuple[Any, str] | None = None, *, is_authority: bool = False, signs: bool = True
) -> x509.Certificate:
    """Return a certificate of a key for a name (of an authority: its common name; else also its e-mail address)."""
    issuer_key, issuer_name = issuer or (key, name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGAN)
        .not_valid_after(BEGAN + timedelta(days=365))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(usage(is_authority, signs), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def usage(is_authority: bool, signs: bool) -> x509.KeyUsage:
    """Return the extension with what a key is for."""
    rest = dict.fromkeys(
        (
            "content_commitment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    other = not is_authority and not signs
    return x509.KeyUsage(
        digital_signature=signs and not is_authority, key_cert_sign=is_authority, key_encipherment=other, **rest
    )


def pem_of(*certificates: x509.Certificate) -> str:
    """Return certificates as PEM."""
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates).decode()
