"""The signatures of versions of repositories: what the bundles beside their files are about, and whether they hold."""

import logging

from penstock.core.errors import InvalidInput, Refused
from penstock.core.model_signing import (
    CONFIG_FILE,
    COPIED_BUNDLES,
    UNSIGNED,
    SignaturePolicy,
    SignedFiles,
    signature_refusal,
)
from penstock.core.versions import VersionKey
from penstock.registry.config.model_config import parse_text
from penstock.registry.files import read_text
from penstock.registry.repository.copies import MODEL, VERSION, PreparedVersion, RepositoryVersion
from penstock.registry.repository.tree import join_path
from penstock.registry.signing.loading import read_bundles

log = logging.getLogger("penstock.registry")


def signed_copy(piece: PreparedVersion, source: RepositoryVersion) -> SignedFiles:
    """Return what the bundles of a copied version are about: its files by their names in the signed folder."""
    paths = tuple(str(piece.root / path) for path, _ in piece.files if path.startswith(COPIED_BUNDLES))
    if not paths:
        return UNSIGNED
    files = {_signed_name(path, source, piece.signed): digest for path, digest in _own_files(piece)}
    served = dict(piece.files).get(piece.graph)
    files[_signed_name(piece.graph, source, piece.signed)] = piece.pushed
    rewritten = piece.graph if served != piece.pushed else ""
    return SignedFiles(tuple(files.items()), paths, rewritten, partial=True)


def _own_files(piece: PreparedVersion) -> list[tuple[str, str]]:
    return [(path, digest) for path, digest in piece.files if not path.startswith(COPIED_BUNDLES)]


def _signed_name(path: str, source: RepositoryVersion, base: str) -> str:
    """Return the name of a copied file in the signed folder; one outside of it has a name that no manifest has."""
    part, _, name = path.partition("/")
    whole = join_path(source.folder if part == VERSION else source.model.folder, name)
    if not base:
        return whole
    return whole.removeprefix(f"{base}/") if whole.startswith(f"{base}/") else f"/{whole}"


def check_copy(policy: SignaturePolicy, key: VersionKey, piece: PreparedVersion, source: RepositoryVersion) -> None:
    """Check the signatures of a copied version before it is examined; blocks.

    Raises:
        Refused: they do not allow to serve it, and the policy requires them.
    """
    if not policy.is_on:
        return
    reason = _describe_refusal(policy, key, piece, source)
    if reason and policy.is_required:
        raise Refused(f"its signatures do not allow to serve it: {reason}")
    if reason:
        log.warning("model %s version %s is served although %s", *key, reason)


def _describe_refusal(
    policy: SignaturePolicy, key: VersionKey, piece: PreparedVersion, source: RepositoryVersion
) -> str:
    from penstock.registry.signing.verifier import verify_bundles  # noqa: PLC0415 - only where signatures are checked

    signed = signed_copy(piece, source)
    bundles = read_bundles(signed.bundles)
    verdict = verify_bundles(policy, *key, dict(signed.files), bundles, signed.partial)
    return _changed_config(piece, source, signed) or signature_refusal(policy, key[0], verdict)


def _changed_config(piece: PreparedVersion, source: RepositoryVersion, signed: SignedFiles) -> str:
    """Return why the configuration in use is not the one that was copied, "" if it is."""
    if not signed.bundles or not source.model.config:
        return ""
    try:
        text = read_text(piece.root / MODEL / CONFIG_FILE, "the model configuration")
        same = parse_text(text, source.model.name) == source.model.config
    except InvalidInput:
        same = False
    return "" if same else "its configuration changed while it was copied"
