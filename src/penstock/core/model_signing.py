"""Rules of signatures: who is trusted for which model, what a signed manifest must cover, and how many must sign."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

BUNDLE_FILE = "model.sig"
"""The name of the bundle in a signed folder; it is not itself signed."""

MOST_BUNDLES = 16
"""Bundles of one version."""

BUNDLE_BYTES = 4 << 20
"""Longest bundle: ten thousand files need about half of it."""

CONFIG_FILE = "config.pbtxt"
"""The name of a model's configuration."""

COPIED_BUNDLES = "signature/"
"""The folder of bundles in a copy of a version, beside its files."""

SINGLE_FILE = "."
"""The name of the only file of a manifest that was made of a file, not of a folder."""


class SignatureMode(StrEnum):
    """What signatures are for: nothing, a warning, or a condition of every push and load."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class TrustedSigner:
    """A signer that is trusted for the models that match a pattern.

    ``public_key`` is its key (PEM). Without one, ``authority`` has the certificates (PEM) that must have issued its
    certificate, and ``identity`` is the name in it: a subject alternative name, or else the common name.
    """

    name: str
    public_key: str = ""
    authority: str = ""
    identity: str = ""
    models: tuple[str, ...] = ("*",)

    def is_trusted_for(self, model: str) -> bool:
        """Whether its signatures count for a model."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Whose signatures a version needs: those of ``threshold`` different signers.

    ``bound`` asks every signature to name the model and the version, so that contents with good signatures cannot be
    exchanged for each other.
    """

    mode: SignatureMode = SignatureMode.OFF
    signers: tuple[TrustedSigner, ...] = ()
    threshold: int = 1
    bound: bool = False

    @property
    def is_on(self) -> bool:
        """Whether signatures are checked."""
        return self.mode is not SignatureMode.OFF

    @property
    def is_required(self) -> bool:
        """Whether a version without enough signatures is refused."""
        return self.mode is SignatureMode.REQUIRE

    def signers_for(self, model: str) -> tuple[TrustedSigner, ...]:
        """Return the signers that are trusted for a model."""
        return tuple(signer for signer in self.signers if signer.is_trusted_for(model))


NO_SIGNATURES = SignaturePolicy()
"""The policy where signatures are not checked."""


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """The signed content of a version: its files as they were pushed (name and SHA-256 in hex), and the paths of its
    bundles.

    ``rewritten`` is the graph that admission has rewritten from the signed one ("" = none is). ``partial``: the bundles
    are about a folder of which the version needs a part, as the folder of a model with several versions.
    """

    files: tuple[tuple[str, str], ...] = ()
    bundles: tuple[str, ...] = ()
    rewritten: str = ""
    partial: bool = False


UNSIGNED = SignedFiles()
"""The signed content where signatures are not checked."""


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """What a bundle states: the SHA-256 (hex) of each file by its name, and for which model and version it was signed
    ("" = it does not say)."""

    files: Mapping[str, str]
    model: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class SignatureVerdict:
    """The result of a check: the names of the trusted signers, and why other bundles do not count."""

    signers: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def parse_signature_policy(values: Mapping[str, Any]) -> SignaturePolicy:
    """Return a policy from its JSON values (``dataclasses.asdict``)."""
    signers = tuple(TrustedSigner(**{**item, "models": tuple(item["models"])}) for item in values["signers"])
    return SignaturePolicy(SignatureMode(values["mode"]), signers, values["threshold"], values["bound"])


def check_coverage(manifest: SignedManifest, files: Mapping[str, str], partial: bool = False) -> str:
    """Return why a manifest does not cover exactly these files (name to SHA-256 in hex), "" if it does.

    A manifest of a single file covers a single file of any name: bare graphs have no name of their own. A ``partial``
    content may lack files of the manifest, but not a configuration: without one, a model is served otherwise.
    """
    if len(manifest.files) == 1 and len(files) == 1 and _is_single(next(iter(manifest.files))):
        same = next(iter(manifest.files.values())) == next(iter(files.values()))
        return "" if same else "the graph is not the signed one"
    if added := sorted(files.keys() - manifest.files.keys()):
        return f"{_files_text(added)} not signed"
    missing = sorted(manifest.files.keys() - files.keys())
    if missing := [name for name in missing if not partial or name.rpartition("/")[2] == CONFIG_FILE]:
        return f"{_files_text(missing)} missing"
    changed = sorted(name for name, digest in files.items() if manifest.files[name] != digest)
    return f"{_files_text(changed)} changed since the signature" if changed else ""


def _is_single(name: str) -> bool:
    return name == SINGLE_FILE or ("/" not in name and name.endswith(".onnx"))


def _files_text(names: Collection[str]) -> str:
    """Return how many files, with the verb: their names stay out of texts that callers may read."""
    return "1 file is" if len(names) == 1 else f"{len(names)} files are"


def check_binding(manifest: SignedManifest, model: str, version: str, required: bool) -> str:
    """Return why a manifest is not for this version, "" if it is; ``required``: it must name both."""
    if required and not (manifest.model and manifest.version):
        return "it does not name the model and the version that it is for"
    if manifest.model not in ("", model):
        return f"it was made for model '{manifest.model[:128]}'"
    if manifest.version not in ("", version):
        return f"it was made for version '{manifest.version[:64]}'"
    return ""


def signature_refusal(policy: SignaturePolicy, model: str, verdict: SignatureVerdict) -> str:
    """Return why a version may not be served by its signatures, "" if it may."""
    if not policy.is_on or len(verdict.signers) >= policy.threshold:
        return ""
    if not policy.signers_for(model):
        return f"no signer is trusted for model '{model}'; add one to admission.signatures.trusted"
    if not verdict.signers:
        because = f": {verdict.faults[0]}" if verdict.faults else ""
        return f"it has no signature of a trusted signer{because}"
    names = ", ".join(verdict.signers)
    return f"{policy.threshold} signers must have signed it, and {len(verdict.signers)} have: {names}"


def check_served(signed: SignedFiles, served: Iterable[tuple[str, str]], graph: str) -> str:
    """Return which loaded file (name and SHA-256 in hex) is not a signed one, "" if all are; ``graph`` is the name of
    the graph among them.

    A bare graph is loaded under the name of its digest, so digests are compared. The rewritten graph is left out: the
    control process makes it of the signed one.
    """
    known = {digest for _, digest in signed.files}
    files = {name: digest for name, digest in served if not _is_bundle(signed, name)}
    foreign = [name for name, digest in files.items() if digest not in known and name != signed.rewritten]
    return "a file to be loaded is not a signed one" if foreign or graph not in files else ""


def _is_bundle(signed: SignedFiles, name: str) -> bool:
    return name.startswith(COPIED_BUNDLES) if signed.partial else name == BUNDLE_FILE
