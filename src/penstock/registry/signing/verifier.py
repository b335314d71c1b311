"""Verifies the bundles of a version: who has signed it, and whether they cover its files."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from penstock.core.errors import InvalidInput
from penstock.core.model_signing import (
    SignaturePolicy,
    SignatureVerdict,
    SignedManifest,
    TrustedSigner,
    check_binding,
    check_coverage,
)
from penstock.registry.signing import keys
from penstock.registry.signing.bundle import Bundle, parse_bundle, parse_manifest
from penstock.registry.signing.certificates import certified_key

UNTRUSTED = "it is not signed by a trusted signer"


def verify_bundles(
    policy: SignaturePolicy,
    model: str,
    version: str,
    files: Mapping[str, str],
    bundles: Iterable[str],
    partial: bool = False,
) -> SignatureVerdict:
    """Return which trusted signers have signed the files (name to SHA-256 in hex) of a version, and why the other
    bundles do not count. ``partial``: see ``check_coverage``."""
    signers: set[str] = set()
    faults: list[str] = []
    for text in bundles:
        try:
            names, manifest = read_signed(policy, model, version, text)
            if fault := check_coverage(manifest, files, partial):
                raise InvalidInput(fault)
            signers.update(names)
        except InvalidInput as fault:
            faults.append(str(fault))
    return SignatureVerdict(tuple(sorted(signers)), tuple(faults))


def read_signed(policy: SignaturePolicy, model: str, version: str, text: str) -> tuple[list[str], SignedManifest]:
    """Return the trusted signers of a bundle, and what they state about a version.

    Raises:
        InvalidInput: it is not a bundle, has no signature of a signer that is trusted for the model, or is for another
            model or version.
    """
    bundle = parse_bundle(text)
    signers = policy.signers_for(model)
    names = [signer.name for signer in signers if not why_untrusted(bundle, signer)]
    if not names:
        reasons = [why_untrusted(bundle, signer) for signer in signers]
        raise InvalidInput(reasons[0] if len(reasons) == 1 else UNTRUSTED)
    manifest = parse_manifest(bundle.payload)
    if fault := check_binding(manifest, model, version, policy.bound):
        raise InvalidInput(fault)
    return names, manifest


def why_untrusted(bundle: Bundle, signer: TrustedSigner) -> str:
    """Return why a bundle is not signed by a signer, "" if it is."""
    try:
        key = _signer_key(bundle, signer)
    except InvalidInput as fault:
        return str(fault)
    if key is None:
        return UNTRUSTED
    return "" if keys.verify(key, bundle.signature, bundle.signed_bytes) else "its signature does not hold"


def _signer_key(bundle: Bundle, signer: TrustedSigner) -> keys.Key | None:
    """Return the key that a signer must have signed with; None where the bundle is of another key or kind."""
    if signer.public_key:
        key, hint = _known_key(signer.public_key)
        return key if not bundle.certificates and bundle.hint in ("", hint) else None
    if not bundle.certificates:
        return None
    return certified_key(bundle.certificates, signer.authority, signer.identity)


@lru_cache(64)
def _known_key(pem: str) -> tuple[keys.Key, str]:
    key = keys.load_public_key(pem.encode())
    return key, keys.compute_fingerprint(key)
