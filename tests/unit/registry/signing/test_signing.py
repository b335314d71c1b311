"""Signatures: what was signed verifies, and nothing else does."""

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.core.desired import VersionSpec
from penstock.core.errors import InvalidInput, Refused
from penstock.core.model_signing import (
    BUNDLE_BYTES,
    SignatureMode,
    SignaturePolicy,
    SignatureVerdict,
    SignedFiles,
    TrustedSigner,
)
from penstock.registry.blobs.folder import hash_file
from penstock.registry.signing import keys
from penstock.registry.signing.bundle import encode_bundle, parse_bundle, parse_manifest
from penstock.registry.signing.certificates import certified_key, load_authorities, load_chain
from penstock.registry.signing.loading import check_signed
from penstock.registry.signing.reader import SignatureReader
from penstock.registry.signing.signer import bundle_path, sign_path
from penstock.registry.signing.trust import with_proof
from penstock.registry.signing.verifier import verify_bundles
from tests.unit.registry.signing.keys_of_tests import certificate, pem_of, private_key, private_pem

KINDS = ("P-256", "P-384", "P-521", "Ed25519")
FILES = {"model.onnx": b"graph", "config.pbtxt": b"", "labels/digits.txt": b"0\n1\n"}


def folder(at: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content)
    return at


def digests(at: Path) -> dict[str, str]:
    names = [path.relative_to(at).as_posix() for path in at.rglob("*") if path.is_file() and path.name != "model.sig"]
    return {name: hash_file(at / name).removeprefix("sha256:") for name in names}


def trusted(key: Any, name: str = "ann", **changes: Any) -> TrustedSigner:
    return TrustedSigner(name, keys.public_pem(key), **changes)


def policy(*signers: TrustedSigner, **changes: Any) -> SignaturePolicy:
    return SignaturePolicy(SignatureMode.REQUIRE, signers, **changes)


def verify(asked: SignaturePolicy, files: dict[str, str], *bundles: str, model: str = "m") -> SignatureVerdict:
    return verify_bundles(asked, model, "1", files, bundles)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_key_has_signed_verifies_by_its_public_key(kind: str, tmp_path: Path) -> None:
    key, at = private_key(kind), folder(tmp_path)
    bundle = sign_path(at, key, bundle_path(at))
    assert verify(policy(trusted(key)), digests(at), bundle) == SignatureVerdict(("ann",))
    assert verify(policy(trusted(private_key(kind, 1))), digests(at), bundle).signers == ()


def test_a_graph_alone_is_signed_beside_it(tmp_path: Path) -> None:
    graph = folder(tmp_path, {"digits.onnx": b"graph"}) / "digits.onnx"
    assert bundle_path(graph).name == "digits.onnx.sig"
    bundle = sign_path(graph, private_key(), bundle_path(graph))
    files = {"model.onnx": hash_file(graph).removeprefix("sha256:")}
    assert verify(policy(trusted(private_key())), files, bundle).signers == ("ann",)


def test_the_bundle_and_files_of_version_control_are_not_signed(tmp_path: Path) -> None:
    at = folder(tmp_path, {**FILES, ".git/head": b"", ".gitignore": b"", "model.sig": b"old"})
    statement = parse_bundle(sign_path(at, private_key(), at / "model.sig")).payload
    assert set(parse_manifest(statement).files) == set(FILES)
    ignored = json.loads(statement)["predicate"]["serialization"]["ignore_paths"]
    assert ignored == ["model.sig", ".git", ".gitattributes", ".github", ".gitignore"]


def test_what_is_not_a_plain_file_is_not_signed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file to sign"):
        sign_path(tmp_path, private_key(), tmp_path / "model.sig")
    (folder(tmp_path) / "link").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(InvalidInput, match="symbolic link"):
        sign_path(tmp_path, private_key(), tmp_path / "model.sig")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda files: files | {"more": "a" * 64}, "1 file is not signed"),
        (lambda files: files | {"model.onnx": "a" * 64}, "1 file is changed since the signature"),
        (lambda files: {"model.onnx": files["model.onnx"]}, "2 files are missing"),
    ],
)
def test_another_content_is_not_the_signed_one(
    change: Callable[[dict[str, str]], dict[str, str]], fault: str, tmp_path: Path
) -> None:
    at = folder(tmp_path)
    bundle = sign_path(at, private_key(), at / "model.sig")
    assert verify(policy(trusted(private_key())), change(digests(at)), bundle).faults == (fault,)


def test_several_signers_count_once_each(tmp_path: Path) -> None:
    ann, bob = private_key(), private_key("P-256", 1)
    at = folder(tmp_path)
    bundles = [sign_path(at, key, at / "model.sig") for key in (ann, bob, ann)]
    asked = policy(trusted(ann), trusted(bob, "bob"), threshold=2)
    assert verify(asked, digests(at), *bundles).signers == ("ann", "bob")
    assert verify(asked, digests(at), bundles[0], bundles[2]).signers == ("ann",)


def test_a_signer_counts_only_for_its_models(tmp_path: Path) -> None:
    at = folder(tmp_path)
    bundle = sign_path(at, private_key(), at / "model.sig")
    asked = policy(trusted(private_key(), models=("fraud-*",)))
    assert verify(asked, digests(at), bundle, model="fraud-1").signers == ("ann",)
    assert verify(asked, digests(at), bundle, model="digits").signers == ()


def test_a_signature_for_another_version_does_not_count(tmp_path: Path) -> None:
    at = folder(tmp_path)
    bound, unbound = (sign_path(at, private_key(), at / "model.sig", *names) for names in (("m", "1"), ("", "")))
    asked, strict = policy(trusted(private_key())), policy(trusted(private_key()), bound=True)
    assert verify(asked, digests(at), bound).signers == verify(strict, digests(at), bound).signers == ("ann",)
    assert verify(asked, digests(at), bound, model="other").faults == ("it was made for model 'm'",)
    assert verify(strict, digests(at), unbound).faults == ("it does not name the model and the version that it is for",)


# Certificates.


def chain(leaf: Any, name: str = "ann@example.org", **changes: Any) -> tuple[str, str]:
    """Return the certificates of a signer with that of its issuer, and the root above them (PEM)."""
    root, middle = private_key("P-384", 7), private_key("P-384", 8)
    authority = certificate(root, "root", is_authority=True)
    issuer = certificate(middle, "issuer", (root, "root"), is_authority=True)
    return pem_of(certificate(leaf, name, (middle, "issuer"), **changes), issuer), pem_of(authority)


def test_what_a_certified_key_has_signed_verifies_by_the_authority(tmp_path: Path) -> None:
    at, key = folder(tmp_path), private_key()
    certificates, authority = chain(key)
    bundle = sign_path(at, key, at / "model.sig", chain=load_chain(certificates.encode()))
    asked = policy(TrustedSigner("ann", authority=authority, identity="ann@example.org"))
    assert verify(asked, digests(at), bundle) == SignatureVerdict(("ann",))
    assert verify(policy(trusted(key)), digests(at), bundle).faults == ("it is not signed by a trusted signer",)
    with pytest.raises(InvalidInput, match="not that of the key"):
        sign_path(at, private_key("P-256", 1), at / "model.sig", chain=load_chain(certificates.encode()))


@pytest.mark.parametrize(
    ("authority", "identity", "changes", "fault"),
    [
        (None, "bob@example.org", {}, "the certificate is for another name"),
        (None, "ann@example.org", {"signs": False}, "the certificate is not for signing"),
        ("other", "ann@example.org", {}, "the certificate was not issued by the trusted authority"),
    ],
)
def test_another_certificate_does_not_count(
    authority: str | None, identity: str, changes: dict[str, Any], fault: str
) -> None:
    certificates, root = chain(private_key(), **changes)
    other = pem_of(certificate(private_key("P-384", 9), "root", is_authority=True))
    with pytest.raises(InvalidInput, match=fault):
        certified_key(load_chain(certificates.encode()), other if authority else root, identity)


def test_a_chain_without_its_issuer_or_of_other_bytes_does_not_count() -> None:
    certificates, root = chain(private_key())
    with pytest.raises(InvalidInput, match="not issued"):
        certified_key(load_chain(certificates.encode())[:1], root, "ann@example.org")
    with pytest.raises(InvalidInput, match="cannot be read"):
        certified_key((b"no certificate",), root, "ann@example.org")


# Files of keys.


def test_keys_of_other_kinds_and_texts_are_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(InvalidInput, match="another kind"):
        keys.load_private_key(private_pem(other))
    with pytest.raises(InvalidInput, match="another kind"):
        keys.load_public_key(keys.public_pem(ec.generate_private_key(ec.SECP256K1())).encode())
    for load in (keys.load_private_key, keys.load_public_key, load_authorities):
        with pytest.raises(InvalidInput, match="cannot be read"):
            load(b"no key")
    sealed = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    assert keys.public_pem(keys.load_private_key(sealed, b"word")) == keys.public_pem(private_key())
    with pytest.raises(InvalidInput, match="password"):
        keys.load_private_key(sealed)


def test_the_files_of_trusted_signers_are_read_and_checked(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(keys.public_pem(private_key()))
    (tmp_path / "ca.pem").write_text(chain(private_key())[1])
    assert with_proof(TrustedSigner("ann"), tmp_path / "key.pem", None) == trusted(private_key())
    assert with_proof(TrustedSigner("ann"), None, tmp_path / "ca.pem").authority.startswith("-----BEGIN CERT")
    (tmp_path / "bad.pem").write_bytes(b"\xff")
    for file, fault in (("none.pem", "no such file"), ("bad.pem", "not PEM"), ("ca.pem", "public key cannot be read")):
        with pytest.raises(InvalidInput, match=f"signer 'ann': .*{fault}"):
            with_proof(TrustedSigner("ann"), tmp_path / file, None)


# Bundles.


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    at = folder(tmp_path_factory.mktemp("signed"))
    return sign_path(at, private_key(), at / "model.sig"), digests(at)


def changed(text: str, change: Callable[[Any], object]) -> str:
    document = json.loads(text)
    change(document)
    return json.dumps(document)


CHANGES: dict[str, Callable[[Any], object]] = {
    "not a Sigstore bundle": lambda bundle: bundle.update(mediaType="application/json"),
    "no DSSE envelope": lambda bundle: bundle.pop("dsseEnvelope"),
    "unknown field 'messageSignature'": lambda bundle: bundle.update(messageSignature={}),
    "payload of the bundle must be": lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
    "list of 1": lambda bundle: bundle["dsseEnvelope"]["signatures"].append(bundle["dsseEnvelope"]["signatures"][0]),
    "the payload is not base64": lambda bundle: bundle["dsseEnvelope"].update(payload="?"),
    "the signature is not base64": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=""),
    "transparency log": lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[{}]),
    "one of a public key and": lambda bundle: bundle["verificationMaterial"].pop("publicKey"),
    "must be an object": lambda bundle: bundle.update(verificationMaterial=[]),
    "must be a text": lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=1),
    "key id": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(keyid="other"),
    "unsupported kind of key": lambda bundle: bundle["verificationMaterial"]["publicKey"].update(keyDetails="RSA"),
}


@pytest.mark.parametrize("fault", CHANGES)
def test_what_is_not_a_bundle_of_this_format_is_refused(fault: str, signed: tuple[str, dict[str, str]]) -> None:
    with pytest.raises(InvalidInput, match=fault):
        parse_bundle(changed(signed[0], CHANGES[fault]))


def test_texts_that_are_not_a_bundle_are_refused(signed: tuple[str, dict[str, str]]) -> None:
    for text in ("", "[", "[]", "null", "[" * 100_000, signed[0].replace("{", '{"mediaType": "", ', 1)):
        with pytest.raises(InvalidInput):
            parse_bundle(text)
    with pytest.raises(InvalidInput, match="longer than"):
        parse_bundle(" " * (BUNDLE_BYTES + 1))
    assert encode_bundle(parse_bundle(signed[0])) == signed[0]


def resigned(text: str, change: Callable[[Any], object]) -> str:
    """Return a bundle whose statement was changed before its signer signed it."""
    bundle = parse_bundle(text)
    payload = changed(bundle.payload.decode(), change).encode()
    other = type(bundle)(payload, b"", bundle.hint)
    return encode_bundle(type(bundle)(payload, keys.sign(private_key(), other.signed_bytes), bundle.hint))


STATEMENTS: dict[str, Callable[[Any], object]] = {
    "not about a model": lambda statement: statement.update(predicateType="https://slsa.dev/provenance/v1"),
    "list of 1": lambda statement: statement["subject"].append({}),
    "digest of the signature's subject": lambda statement: statement["predicate"]["resources"].pop(),
    "by shards": lambda statement: statement["predicate"]["serialization"].update(method="shards"),
    "hashed with SHA-256": lambda statement: statement["predicate"]["resources"][0].update(algorithm="blake2b"),
    "names a file twice": lambda statement: statement["predicate"]["resources"][0].update(name="../model.onnx"),
    "that cannot be": lambda statement: statement["predicate"].update(penstock={"model": "a b"}),
}


@pytest.mark.parametrize("fault", STATEMENTS)
def test_a_signer_cannot_state_what_is_not_of_this_format(fault: str, signed: tuple[str, dict[str, str]]) -> None:
    verdict = verify(policy(trusted(private_key())), signed[1], resigned(signed[0], STATEMENTS[fault]))
    assert verdict.signers == ()
    assert fault in verdict.faults[0]


def test_a_key_in_place_of_its_hint_is_that_of_older_releases(signed: tuple[str, dict[str, str]]) -> None:
    pem = b64encode(keys.public_pem(private_key()).encode()).decode()

    def older(bundle: Any) -> None:
        bundle["verificationMaterial"] = {"publicKey": {"rawBytes": pem, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}}

    asked = policy(trusted(private_key()))
    assert verify(asked, signed[1], changed(signed[0], older)).signers == ("ann",)
    assert (
        verify(
            asked,
            signed[1],
            changed(signed[0], lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint="a")),
        ).signers
        == ()
    )


def test_no_change_of_a_signed_byte_is_unseen(signed: tuple[str, dict[str, str]]) -> None:
    dice, asked = random.Random(1), policy(trusted(private_key()))
    for _ in range(50):
        envelope = json.loads(signed[0])["dsseEnvelope"]
        part = dice.choice(["payload", "sig"])
        data = bytearray(b64decode(envelope["payload"] if part == "payload" else envelope["signatures"][0]["sig"]))
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        text = b64encode(bytes(data)).decode()

        def put(bundle: Any, part: str = part, text: str = text) -> None:
            at = bundle["dsseEnvelope"]
            (at if part == "payload" else at["signatures"][0])[part] = text

        assert verify(asked, signed[1], changed(signed[0], put)).signers == ()


# At each load.


def spec(at: Path, bundles: tuple[str, ...], files: dict[str, str], **changes: Any) -> VersionSpec:
    stated = SignedFiles(tuple(files.items()), bundles, **changes)
    return VersionSpec("1", str(at / "model.onnx"), root=str(at), files=tuple(files.items()), signed=stated)


def test_a_worker_loads_only_what_is_signed(tmp_path: Path) -> None:
    at = folder(tmp_path / "m")
    (at / "model.sig").write_text(sign_path(at, private_key(), at / "model.sig"))
    files, bundles = digests(at), (str(at / "model.sig"), str(at / "none"))
    check_signed(policy(trusted(private_key())), "m", spec(at, bundles, files))
    check_signed(SignaturePolicy(), "m", spec(at, (), files))
    with pytest.raises(Refused, match="do not allow to load it: it has no signature"):
        check_signed(policy(trusted(private_key())), "m", spec(at, (), files))
    with pytest.raises(Refused, match="changed since the signature"):
        check_signed(policy(trusted(private_key())), "m", spec(at, bundles, files | {"model.onnx": "a" * 64}))
    with pytest.raises(Refused, match="not signed by a trusted signer"):
        check_signed(policy(trusted(private_key("P-256", 1))), "m", spec(at, bundles, files))


def test_a_worker_warns_where_it_is_asked_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_signed(SignaturePolicy(SignatureMode.WARN, (trusted(private_key()),)), "m", spec(tmp_path, (), {}))
    assert "is loaded although its signatures do not allow it" in caplog.text


def test_a_reader_has_no_reason_until_it_has_a_policy(signed: tuple[str, dict[str, str]]) -> None:
    reader = SignatureReader()
    assert reader.verify("m", "1", {}, []) == (SignatureVerdict(), "")
    reader.policy = policy(trusted(private_key()))
    assert reader.verify("m", "1", signed[1], [signed[0]]) == (SignatureVerdict(("ann",)), "")
    assert reader.verify("m", "1", signed[1], [])[1] == "it has no signature of a trusted signer"
