"""Certificates for tests, made by openssl: authorities, and what they issue."""

import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.api.tls import TlsContexts
from penstock.core.certificates import TlsMaterial

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
LOOPBACK = ("DNS:localhost", "IP:127.0.0.1")


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    def material(self, client_ca: "Pair | None" = None, *, required: bool = False) -> TlsMaterial:
        """What a port needs to present it, and to accept certificates of an authority."""
        authority = "" if client_ca is None else client_ca.certificate.read_text()
        return TlsMaterial(self.certificate.read_text(), self.key.read_text(), authority, required)

    def contexts(self, client_ca: "Pair | None" = None, *, required: bool = False) -> TlsContexts:
        """The contexts of ports that present it."""
        contexts = TlsContexts()
        contexts.use(self.material(client_ca, required=required))
        return contexts

    def client(self, pair: "Pair | None" = None, *protocols: str) -> ssl.SSLContext:
        """The context of a client that trusts it, and presents a certificate of its own."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if pair is not None:
            context.load_cert_chain(str(pair.certificate), str(pair.key))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def _files(folder: Path, name: str) -> Pair:
    folder.mkdir(parents=True, exist_ok=True)
    return Pair(folder / f"{name}.pem", folder / f"{name}.key")


def make_certificate(folder: Path, name: str = "server", days: int = 2, kind: Sequence[str] = KEY) -> Pair:
    """A certificate for this machine's loopback address that is its own authority."""
    pair = _files(folder, name)
    alternatives = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={','.join(LOOPBACK)}"]
    files = ["-out", str(pair.certificate), "-keyout", str(pair.key)]
    _openssl("req", "-x509", *kind, "-days", str(days), *files, *alternatives)
    return pair


def make_authority(folder: Path, name: str = "authority") -> Pair:
    """An authority."""
    pair = _files(folder, name)
    files = ["-out", str(pair.certificate), "-keyout", str(pair.key)]
    _openssl("req", "-x509", *KEY, "-days", "2", *files, "-subj", f"/CN={name}")
    return pair


def issue(authority: Pair, folder: Path, name: str, alternatives: Sequence[str] = LOOPBACK, days: int = 2) -> Pair:
    """A certificate of an authority, with subject alternative names such as ``URI:spiffe://x/bot``."""
    pair = _files(folder, name)
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={','.join(alternatives)}\n" if alternatives else "")
    _openssl("req", *KEY, "-keyout", str(pair.key), "-out", str(request), "-subj", f"/CN={name}")
    by = ["-CA", str(authority.certificate), "-CAkey", str(authority.key), "-CAcreateserial"]
    end = ["-days", str(days), "-extfile", str(extensions)]
    _openssl("x509", "-req", "-in", str(request), "-out", str(pair.certificate), *by, *end)
    return pair


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
