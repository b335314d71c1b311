"""Bundles of the OpenSSF model signing format: a Sigstore bundle 0.3 in JSON with a DSSE envelope around an in-toto
statement.

Sources: the Sigstore bundle format (media type, verification material), DSSE 1.0 (the signed bytes), in-toto
attestation 1.0 (the statement), and the model signing predicate 1.0. Parsing is strict: an unknown or repeated field,
another encoding of base64 or more than one signature is refused, so that no part of a bundle can change unseen.
"""

import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.model_signing import BUNDLE_BYTES, BUNDLE_FILE, SignedManifest
from penstock.core.versions import is_model_name, is_version

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""Files of version control, which the format leaves out of a signature."""

BINDING = "penstock"
"""The field of the predicate with the model and the version; verifiers of the format ignore other fields."""

KEY_DETAILS = ("PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384", "PKIX_ECDSA_P521_SHA_512", "PKIX_ED25519")
MOST_FILES = 10_000
MOST_CERTIFICATES = 8

_SHA256 = re.compile(r"[0-9a-f]{64}")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A parsed bundle: the signed payload, its signature, and either the hint of a key ("" = none) or certificates
    (DER), that of the signer first."""

    payload: bytes
    signature: bytes
    hint: str = ""
    certificates: tuple[bytes, ...] = ()

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that were signed: the pre-authentication encoding (PAE) of DSSE."""
        return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(self.payload), self.payload)


def parse_bundle(text: str | bytes) -> Bundle:
    """Parse a bundle.

    Raises:
        InvalidInput: it is not a bundle of this format.
    """
    if len(text) > BUNDLE_BYTES:
        raise InvalidInput(f"the signature is longer than {BUNDLE_BYTES} bytes")
    values = _check_fields(_parse(text), "the bundle", {"mediaType", "verificationMaterial", "dsseEnvelope"})
    if values.get("mediaType") != BUNDLE_TYPE:
        raise InvalidInput(f"the signature is not a Sigstore bundle 0.3; its media type must be {BUNDLE_TYPE}")
    hint, certificates = _read_material(values.get("verificationMaterial"))
    payload, signature, key_id = _read_envelope(values.get("dsseEnvelope"))
    if key_id not in ("", hint):
        raise InvalidInput("the key id of the signature is not that of the bundle")
    return Bundle(payload, signature, hint, certificates)


def encode_bundle(bundle: Bundle) -> str:
    """Return a bundle as JSON."""
    material: Document = {"publicKey": {"hint": bundle.hint}}
    if bundle.certificates:
        chain = [{"rawBytes": b64encode(der).decode()} for der in bundle.certificates]
        material = {"x509CertificateChain": {"certificates": chain}}
    signature = {"sig": b64encode(bundle.signature).decode(), "keyid": ""}
    payload = b64encode(bundle.payload).decode()
    envelope = {"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    material["tlogEntries"] = []
    return json.dumps({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def _read_material(values: Any) -> tuple[str, tuple[bytes, ...]]:
    """Return the hint of the key, and the certificates."""
    kinds = ("publicKey", "x509CertificateChain", "certificate")
    material = _check_fields(values, "the verification material", {*kinds, "tlogEntries", "timestampVerificationData"})
    if material.get("tlogEntries") or material.get("timestampVerificationData"):
        raise InvalidInput("signatures by a transparency log are not supported; sign with a key or a certificate")
    if sum(kind in material for kind in kinds) != 1:
        raise InvalidInput("the verification material must have one of a public key and a certificate chain")
    if "publicKey" in material:
        return _read_hint(
            _check_fields(material["publicKey"], "the public key", {"hint", "rawBytes", "keyDetails"})
        ), ()
    if "certificate" in material:
        return "", (_read_certificate(material["certificate"]),)
    chain = _check_fields(material["x509CertificateChain"], "the certificate chain", {"certificates"})
    certificates = _list(chain.get("certificates"), "the certificates", MOST_CERTIFICATES)
    return "", tuple(_read_certificate(item) for item in certificates)


def _read_hint(key: Document) -> str:
    """Return the hint of a key; bundles of model-signing before 1.1 have the key itself instead."""
    if key.get("keyDetails", KEY_DETAILS[0]) not in KEY_DETAILS:
        raise InvalidInput("the bundle states an unsupported kind of key")
    if "rawBytes" in key and "hint" not in key:
        return hashlib.sha256(_decode_base64(key["rawBytes"], "the public key")).hexdigest()
    return _check_text(key.get("hint", ""), "the hint")


def _read_certificate(values: Any) -> bytes:
    return _decode_base64(_check_fields(values, "a certificate", {"rawBytes"}).get("rawBytes"), "a certificate")


def _read_envelope(values: Any) -> tuple[bytes, bytes, str]:
    """Return the payload, the signature, and the id of its key."""
    if values is None:
        raise InvalidInput("the bundle has no DSSE envelope")
    envelope = _check_fields(values, "the DSSE envelope", {"payload", "payloadType", "signatures"})
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise InvalidInput(f"the payload of the bundle must be of the type {PAYLOAD_TYPE}")
    (signature,) = _list(envelope.get("signatures"), "the signatures of an envelope", 1)
    parts = _check_fields(signature, "a signature", {"sig", "keyid"})
    key_id = _check_text(parts.get("keyid", ""), "the key id")
    return (
        _decode_base64(envelope.get("payload"), "the payload"),
        _decode_base64(parts.get("sig"), "the signature"),
        key_id,
    )


def statement_of(files: Mapping[str, str], name: str, ignored: Iterable[str], model: str, version: str) -> bytes:
    """Return the statement about files (name to SHA-256 in hex) as the payload of a bundle.

    ``name`` is that of the signed file or folder. ``model`` and ``version`` bind the signature to them ("" = to none).
    """
    resources = [{"name": path, "algorithm": "sha256", "digest": files[path]} for path in sorted(files)]
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [*ignored]}
    binding = {key: value for key, value in (("model", model), ("version", version)) if value}
    predicate: Document = {"serialization": serialization, "resources": resources}
    if binding:
        predicate[BINDING] = binding
    subject = {"name": name, "digest": {"sha256": _compute_root([files[path] for path in sorted(files)])}}
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    return json.dumps(statement, indent=2).encode()


def parse_manifest(payload: bytes) -> SignedManifest:
    """Return what a payload states; call it only with a payload whose signature holds.

    Raises:
        InvalidInput: it is not a statement of this format.
    """
    statement = _check_object(_parse(payload), "the statement")
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidInput(f"the signature is not about a model; its predicate must be {PREDICATE_TYPE}")
    predicate = _check_object(statement.get("predicate"), "the predicate")
    files = _read_resources(predicate)
    (subject,) = _list(statement.get("subject"), "the subjects", 1)
    digest = _check_object(_check_object(subject, "the subject").get("digest"), "the digest of the subject").get(
        "sha256"
    )
    if digest != _compute_root(list(files.values())):
        raise InvalidInput("the digest of the signature's subject is not that of its files")
    binding = _check_object(predicate.get(BINDING, {}), "the binding")
    return SignedManifest(files, *_read_binding(binding))


def _read_binding(values: Document) -> tuple[str, str]:
    model, version = values.get("model", ""), values.get("version", "")
    good = isinstance(model, str) and isinstance(version, str)
    if not good or (model and not is_model_name(model)) or (version and not is_version(version)):
        raise InvalidInput("the signature names a model or a version that cannot be")
    return model, version


def _read_resources(predicate: Document) -> dict[str, str]:
    serialization = _check_object(predicate.get("serialization"), "the serialization")
    if serialization.get("method") != "files":
        raise InvalidInput("the signature is by shards of files; sign whole files")
    files: dict[str, str] = {}
    for item in _list(predicate.get("resources"), "the resources", MOST_FILES):
        resource = _check_object(item, "a resource")
        name, digest = _check_text(resource.get("name"), "the name of a file"), resource.get("digest")
        if resource.get("algorithm") != "sha256" or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise InvalidInput("the files of the signature must be hashed with SHA-256")
        if name in files or ".." in name.split("/") or name.startswith("/"):
            raise InvalidInput("the signature names a file twice, or one outside of the model")
        files[name] = digest
    return files


def _compute_root(digests: Sequence[str]) -> str:
    """Return the digest of a model: the SHA-256 over the digests of its files in their order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def ignored_names(bundle: str = BUNDLE_FILE) -> tuple[str, ...]:
    """Return what is left out of a signature: the bundle itself, and files of version control."""
    return (bundle, *IGNORED)


def _parse(text: str | bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_make_unique)
    except (ValueError, RecursionError):
        raise InvalidInput("the signature is not valid JSON") from None


def _make_unique(pairs: list[tuple[str, Any]]) -> Document:
    """Return an object without fields that are null; a repeated field is an error."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError
    return {name: value for name, value in values.items() if value is not None}


def _check_object(values: Any, what: str) -> Document:
    if not isinstance(values, dict):
        raise InvalidInput(f"{what} must be an object")
    return values


def _check_fields(values: Any, what: str, known: set[str]) -> Document:
    document = _check_object(values, what)
    if unknown := sorted(document.keys() - known):
        raise InvalidInput(f"{what} has the unknown field '{unknown[0][:100]}'")
    return document


def _list(values: Any, what: str, most: int) -> list[Any]:
    if not isinstance(values, list) or not 0 < len(values) <= most:
        raise InvalidInput(f"{what} must be a list of 1" + (f" to {most}" if most > 1 else ""))
    return values


def _check_text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a text")
    return value


def _decode_base64(value: Any, what: str) -> bytes:
    """Return bytes in the standard form of base64, the only one that is taken."""
    try:
        data = b64decode(_check_text(value, what), validate=True)
    except ValueError:
        data = b""
    if not data or b64encode(data).decode() != value:
        raise InvalidInput(f"{what} is not base64")
    return data
