"""Bundles that the package model-signing made verify here, and ours verify there."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from penstock.core.model_signing import SignatureMode, SignaturePolicy, TrustedSigner
from penstock.registry.signing import keys
from penstock.registry.signing.signer import sign_path
from penstock.registry.signing.verifier import verify_bundles
from tests.unit.registry.signing.keys_of_tests import private_key

DATA = Path(__file__).parent / "model_signing"
FILES = {"model.onnx": b"graph\n", "config.pbtxt": b"", "labels/digits.txt": b"0\n1\n"}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
GRAPH = {"model.onnx": DIGESTS["model.onnx"]}
PACKAGE = os.environ.get("PENSTOCK_MODEL_SIGNING", "")
"""The interpreter of an environment with the package, as ``make_bundles.py`` says; without one, ours are not shown to
it."""


def policy(**proof: Any) -> SignaturePolicy:
    return SignaturePolicy(SignatureMode.REQUIRE, (TrustedSigner("ann", **proof),))


@pytest.mark.parametrize(
    ("name", "key", "files"),
    [("p256", "p256", DIGESTS), ("p384", "p384", DIGESTS), ("p521", "p521", DIGESTS), ("graph", "p256", GRAPH)],
)
def test_bundles_of_the_package_verify(name: str, key: str, files: dict[str, str]) -> None:
    bundle, asked = (DATA / f"{name}.sig").read_text(), policy(public_key=(DATA / f"{key}.pem").read_text())
    assert verify_bundles(asked, "m", "1", files, [bundle]).signers == ("ann",)
    for file in files:
        other = {**files, file: "0" * 64}
        assert verify_bundles(asked, "m", "1", other, [bundle]).signers == ()


def test_bundles_by_a_certificate_verify() -> None:
    bundle, root = (DATA / "certificate.sig").read_text(), (DATA / "root.pem").read_text()
    for identity, signers in (("ann@example.org", ("ann",)), ("bob@example.org", ())):
        asked = policy(authority=root, identity=identity)
        assert verify_bundles(asked, "m", "1", DIGESTS, [bundle]).signers == signers


@pytest.mark.skipif(not PACKAGE, reason="the package brings Sigstore and TUF; set PENSTOCK_MODEL_SIGNING to try it")
@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("single", [True, False])
def test_bundles_of_penstock_verify_by_the_package(kind: str, single: bool, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    path = folder / "model.onnx" if single else folder
    signature = tmp_path / "model.onnx.sig" if single else folder / "model.sig"
    signature.write_text(sign_path(path, private_key(kind), signature, "m", "1"))
    (tmp_path / "key.pem").write_text(keys.public_pem(private_key(kind)))

    def verified() -> subprocess.CompletedProcess[str]:
        command = [PACKAGE, str(DATA / "make_bundles.py"), str(path), str(tmp_path / "key.pem"), str(signature)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert verified().stdout == "verified\n", verified().stderr
    (folder / "model.onnx").write_bytes(b"other\n")
    assert verified().returncode != 0
