"""Makes the bundles beside this file with the package model-signing, and checks ours with it.

The package brings Sigstore and TUF, so it is not a dependency of the tests. To make the bundles anew:

    python -m venv build/model-signing
    build/model-signing/bin/pip install model-signing pyOpenSSL
    build/model-signing/bin/python tests/integration/registry/model_signing/make_bundles.py

With the path of a folder and of a key (and a signature), it verifies a signature of ours instead.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import model_signing

HERE = Path(__file__).parent
FILES = {"model.onnx": b"graph\n", "config.pbtxt": b"", "labels/digits.txt": b"0\n1\n"}
CURVES = {"p256": "prime256v1", "p384": "secp384r1", "p521": "secp521r1"}


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_key(folder: Path, name: str, curve: str) -> Path:
    key = folder / f"{name}.key"
    openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", str(key))
    openssl("ec", "-in", str(key), "-pubout", "-out", str(HERE / f"{name}.pem"))
    return key


def sign(path: Path, key: Path, target: Path) -> None:
    signing = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
    signing.sign(path, path.parent / "made.sig" if path.is_file() else path / "model.sig")
    made = path.parent / "made.sig" if path.is_file() else path / "model.sig"
    shutil.copy(made, target)
    made.unlink()


def make_certificate(folder: Path, name: str, issuer: str, extensions: str) -> None:
    """Make a key, and a certificate of it for thirty years that an issuer has signed ("" = itself)."""
    key, request = folder / f"{name}.key", folder / f"{name}.csr"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    openssl("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
    (folder / "ext").write_text(extensions)
    signed = ["-CA", str(folder / f"{issuer}.pem"), "-CAkey", str(folder / f"{issuer}.key"), "-CAcreateserial"]
    own = ["-signkey", str(key)]
    arguments = ["-days", "10950", "-extfile", str(folder / "ext"), "-out", str(folder / f"{name}.pem")]
    openssl("x509", "-req", "-in", str(request), *(signed if issuer else own), *arguments)


def sign_by_certificate(path: Path, folder: Path) -> None:
    authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n"
    make_certificate(folder, "root", "", authority)
    make_certificate(folder, "issuer", "root", authority + "authorityKeyIdentifier=keyid\n")
    leaf = "keyUsage=critical,digitalSignature\nsubjectAltName=email:ann@example.org\n"
    make_certificate(folder, "leaf", "issuer", leaf + "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
    signing = model_signing.signing.Config().use_certificate_signer(
        private_key=folder / "leaf.key",
        signing_certificate=folder / "leaf.pem",
        certificate_chain=[folder / "issuer.pem"],
    )
    signing.sign(path, path / "model.sig")
    shutil.copy(path / "model.sig", HERE / "certificate.sig")
    shutil.copy(folder / "root.pem", HERE / "root.pem")
    (path / "model.sig").unlink()


def make() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "m"
        for file, content in FILES.items():
            (model / file).parent.mkdir(parents=True, exist_ok=True)
            (model / file).write_bytes(content)
        for curve, openssl_name in CURVES.items():
            sign(model, make_key(folder, curve, openssl_name), HERE / f"{curve}.sig")
        sign(model / "model.onnx", folder / "p256.key", HERE / "graph.sig")
        sign_by_certificate(model, folder)
    (HERE / "version.txt").write_text(f"{model_signing.__version__}\n")


def verify(path: Path, key: Path, signature: Path) -> None:
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(path, signature)
    sys.stdout.write("verified\n")


if __name__ == "__main__":
    make() if len(sys.argv) == 1 else verify(*map(Path, sys.argv[1:4]))
