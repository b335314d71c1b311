"""Certificates of signers: verifies a chain up to a trusted authority, and finds the names in it.

A chain is verified as of the moment when the signer's certificate became valid, as the model signing format does: a
signature states no time, so the end of a certificate cannot end its signatures. To withdraw a signer, remove it from
the configuration.
"""

from collections.abc import Sequence
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.registry.signing.keys import Key

DEEPEST = 8
"""Certificates between the signer's and that of the authority."""


def load_authorities(pem: bytes) -> list[Any]:
    """Return the certificates in a PEM file.

    Raises:
        InvalidInput: there is none, or one cannot be read.
    """
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - imported when it is needed

    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        raise InvalidInput("the certificates cannot be read; expected a PEM file with certificates") from None


def load_chain(pem: bytes) -> tuple[bytes, ...]:
    """Return the certificates in a PEM file as DER; raises as ``load_authorities``."""
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - imported when it is needed

    return tuple(certificate.public_bytes(Encoding.DER) for certificate in load_authorities(pem))


def certified_key(chain: Sequence[bytes], authority: str, identity: str) -> Key:
    """Return the public key of the first certificate of a chain (DER).

    ``authority`` has the trusted certificates (PEM); ``identity`` is the name that the first one must have.

    Raises:
        InvalidInput: the chain does not lead to the authority, is for another name, or not for signing.
    """
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - imported when it is needed

    try:
        certificates = [load_der_x509_certificate(der) for der in chain]
        _verify(certificates, load_authorities(authority.encode()))
        names = _read_names(certificates[0])
        usable = _is_for_signing(certificates[0])
    except ValueError:
        raise InvalidInput("a certificate of the signature cannot be read") from None
    if identity not in names:
        raise InvalidInput("the certificate is for another name")
    if not usable:
        raise InvalidInput("the certificate is not for signing")
    return certificates[0].public_key()


def own_key(der: bytes) -> Key:
    """Return the public key of a certificate (DER); raises ``ValueError``."""
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - imported when it is needed

    return load_der_x509_certificate(der).public_key()


def _verify(certificates: Sequence[Any], authorities: Sequence[Any]) -> None:
    """Verify a chain by RFC 5280; what the signer's certificate is for is checked apart."""
    from cryptography.x509.verification import (  # noqa: PLC0415 - imported when it is needed
        ExtensionPolicy,
        PolicyBuilder,
        Store,
        VerificationError,
    )

    policy = PolicyBuilder().store(Store(list(authorities))).time(certificates[0].not_valid_before_utc)
    policy = policy.max_chain_depth(DEEPEST).extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
    )
    try:
        policy.build_client_verifier().verify(certificates[0], list(certificates[1:]))
    except VerificationError:
        raise InvalidInput("the certificate was not issued by the trusted authority") from None


def _read_names(certificate: Any) -> set[str]:
    """Return the subject alternative names of a certificate (URI, DNS, e-mail), or its common name without any."""
    from cryptography.x509 import (  # noqa: PLC0415 - imported when it is needed
        DNSName,
        NameOID,
        RFC822Name,
        SubjectAlternativeName,
        UniformResourceIdentifier,
    )

    names: set[str] = set()
    for extension in certificate.extensions:
        if isinstance(extension.value, SubjectAlternativeName):
            for kind in (UniformResourceIdentifier, DNSName, RFC822Name):
                names |= set(extension.value.get_values_for_type(kind))
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return names or {str(item.value) for item in common}


def _is_for_signing(certificate: Any) -> bool:
    """Whether a certificate is for digital signatures, or for signing code."""
    from cryptography.x509 import ExtendedKeyUsage, KeyUsage  # noqa: PLC0415 - imported when it is needed
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415 - imported when it is needed

    values = [extension.value for extension in certificate.extensions]
    return any(
        (isinstance(value, KeyUsage) and value.digital_signature)
        or (isinstance(value, ExtendedKeyUsage) and ExtendedKeyUsageOID.CODE_SIGNING in value)
        for value in values
    )
