"""Reads the keys and certificates of trusted signers from their files."""

from dataclasses import replace
from pathlib import Path

from penstock.core.errors import InvalidInput
from penstock.core.model_signing import TrustedSigner
from penstock.registry.signing.certificates import load_authorities
from penstock.registry.signing.keys import load_public_key


def with_proof(signer: TrustedSigner, public_key_file: Path | None, ca_file: Path | None) -> TrustedSigner:
    """Return a signer with the key, or the authority, in a file.

    Raises:
        InvalidInput: the file cannot be read, or has something else; the text names the signer.
    """
    try:
        if public_key_file is not None:
            pem = _read(public_key_file)
            load_public_key(pem.encode())
            return replace(signer, public_key=pem)
        pem = "" if ca_file is None else _read(ca_file)
        load_authorities(pem.encode())
        return replace(signer, authority=pem)
    except InvalidInput as fault:
        raise InvalidInput(f"admission.signatures: signer '{signer.name}': {fault}") from None


def _read(file: Path) -> str:
    try:
        return file.expanduser().read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "error").lower() if isinstance(error, OSError) else "it is not PEM"
        raise InvalidInput(f"{file} cannot be read: {reason}") from None
