"""Checks the signatures of a version before a worker loads it, against the keys of the configuration.

What the control process states of a version comes from the database and the store of contents. The bundles are
verified here again, with the keys that the worker was started with, so that whoever can write there cannot have
another content loaded.
"""

import logging
import os
from pathlib import Path

from penstock.core.desired import VersionSpec
from penstock.core.errors import InvalidInput, Refused
from penstock.core.model_signing import BUNDLE_BYTES, MOST_BUNDLES, SignaturePolicy, check_served, signature_refusal
from penstock.registry.files import read_data

log = logging.getLogger("penstock.registry")


def check_signed(policy: SignaturePolicy, model: str, spec: VersionSpec) -> None:
    """Check that a version to be loaded is signed as the policy asks; blocks.

    The digests of the files that are loaded (``spec.files``) are compared with those of the signed ones; the caller
    checks that the files have these digests.

    Raises:
        Refused: it is not, and the policy requires it.
    """
    if not policy.is_on:
        return
    reason = _describe_refusal(policy, model, spec)
    if reason and policy.is_required:
        raise Refused(f"its signatures do not allow to load it: {reason}")
    if reason:
        text = "model %s version %s is loaded although its signatures do not allow it: %s"
        log.warning(text, model, spec.version, reason)


def _describe_refusal(policy: SignaturePolicy, model: str, spec: VersionSpec) -> str:
    from penstock.registry.signing.verifier import verify_bundles  # noqa: PLC0415 - only where signatures are checked

    signed = spec.signed
    bundles = read_bundles(signed.bundles)
    verdict = verify_bundles(policy, model, spec.version, dict(signed.files), bundles, signed.partial)
    return signature_refusal(policy, model, verdict) or check_served(
        signed, spec.files, os.path.relpath(spec.path, spec.root)
    )


def read_bundles(paths: tuple[str, ...]) -> list[str]:
    """Return the texts of bundles; one that cannot be read is left out."""
    texts = []
    for path in paths[:MOST_BUNDLES]:
        try:
            texts.append(read_data(Path(path), "a signature", BUNDLE_BYTES).decode())
        except (InvalidInput, UnicodeDecodeError):
            log.warning("a signature of a version cannot be read")
    return texts
