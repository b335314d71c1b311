"""Whose signatures models need, by the settings."""

from penstock.config.sections import SignatureSettings
from penstock.core.model_signing import SignatureMode, SignaturePolicy, TrustedSigner


def read_signature_policy(settings: SignatureSettings) -> SignaturePolicy:
    """Return the policy of the settings with the keys of the signers; where signatures are off, no file is read.

    Raises:
        InvalidInput: a file of a signer cannot be used.
    """
    if settings.mode == "off":
        return SignaturePolicy()
    from penstock.registry.signing.trust import with_proof  # noqa: PLC0415 - only where signatures are checked

    signers = []
    for item in settings.trusted:
        signer = TrustedSigner(item.name, identity=item.identity, models=item.models)
        signers.append(with_proof(signer, item.public_key_file, item.ca_file))
    return SignaturePolicy(SignatureMode(settings.mode), tuple(signers), settings.threshold, settings.bound)
