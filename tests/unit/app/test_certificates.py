"""Certificate files that change: taken over whole, or reported and left alone."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.app.certificates import MAX_FILE_BYTES, CertificateFiles, Certificates
from penstock.core.certificates import TlsMaterial
from penstock.core.errors import InvalidInput
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.certificates import Pair, issue, make_authority, make_certificate


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    folder = tmp_path_factory.mktemp("pairs")
    return make_certificate(folder, "one"), make_certificate(folder, "two")


class Files:
    """The files of a gateway, and what its ports were given."""

    def __init__(self, folder: Path, pair: Pair, authority: Pair | None = None) -> None:
        self.pair = Pair(folder / "tls.crt", folder / "tls.key")
        self.ca = folder / "ca.crt"
        self.put(pair)
        if authority is not None:
            shutil.copy(authority.certificate, self.ca)
        files = CertificateFiles(self.pair.certificate, self.pair.key, self.ca if authority else None)
        self.certificates = Certificates(files)
        self.changes: list[tuple[TlsMaterial, bool]] = []
        self.certificates.watch(lambda material, changed: self.changes.append((material, changed)))

    def put(self, pair: Pair) -> None:
        shutil.copy(pair.certificate, self.pair.certificate)
        shutil.copy(pair.key, self.pair.key)

    def look(self) -> str:
        """Look once; the sentence of a failure."""
        try:
            asyncio.run(self.certificates.look())
        except InvalidInput as fault:
            return fault.full_text
        return ""

    def counts(self) -> dict[str, float]:
        points = [item for item in self.certificates.readings() if isinstance(item, Point)]
        return {item.labels[0]: item.value for item in points if item.metric is metrics.TLS_RELOADS}


def test_a_new_pair_is_taken_over_once(tmp_path: Path, pairs: tuple[Pair, Pair]) -> None:
    files = Files(tmp_path, pairs[0])
    assert files.look() == "" and files.changes == []
    files.put(pairs[1])
    assert files.look() == files.look() == ""
    assert files.changes == [(pairs[1].material(), False)]
    assert files.counts() == {"loaded": 1, "refused": 0}


def test_a_half_replaced_pair_is_not_reported(tmp_path: Path, pairs: tuple[Pair, Pair]) -> None:
    files = Files(tmp_path, pairs[0])
    shutil.copy(pairs[1].certificate, files.pair.certificate)
    assert files.look() == ""
    shutil.copy(pairs[1].key, files.pair.key)
    assert files.look() == ""
    assert len(files.changes) == 1 and files.counts() == {"loaded": 1, "refused": 0}


def corrupt(files: Files) -> None:
    files.pair.certificate.write_text("no certificate")


def remove(files: Files) -> None:
    files.pair.key.unlink()


def enlarge(files: Files) -> None:
    files.pair.certificate.write_bytes(b"x" * (MAX_FILE_BYTES + 1))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (corrupt, "expected certificates in PEM form"),
        (remove, "tls.key: no such file or directory"),
        (enlarge, "tls.crt"),
    ],
)
def test_what_cannot_be_used_is_reported_and_the_earlier_stays(
    tmp_path: Path, pairs: tuple[Pair, Pair], spoil: Callable[[Files], None], sentence: str
) -> None:
    files = Files(tmp_path, pairs[0])
    context = files.certificates.contexts.http()
    spoil(files)
    assert files.look() == ""
    assert sentence in files.look() and sentence in files.look()
    assert files.certificates.contexts.http() is context and files.changes == []
    files.put(pairs[0])
    assert files.look() == "" and files.changes == []
    files.put(pairs[1])
    assert files.look() == "" and len(files.changes) == 1


def test_a_report_is_one_line_of_the_log(
    tmp_path: Path, pairs: tuple[Pair, Pair], caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(tmp_path, pairs[0])
    task = files.certificates.watch(lambda *_: None)
    corrupt(files)
    for _ in range(5):
        asyncio.run(task.attempt())
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    sentence = "tls: the certificate or its key cannot be used: expected certificates in PEM form"
    assert lines == [f"the certificates in use stay: {sentence}"]
    assert task.failures == 4


def test_an_expired_certificate_is_not_taken_over(tmp_path: Path, pairs: tuple[Pair, Pair]) -> None:
    files = Files(tmp_path, pairs[0])
    files.put(issue(make_authority(tmp_path), tmp_path, "expired", days=-1))
    assert files.look() == ""
    assert "it has expired" in files.look()


def test_another_authority_is_taken_over(tmp_path: Path, pairs: tuple[Pair, Pair]) -> None:
    one, two = make_authority(tmp_path, "one"), make_authority(tmp_path, "two")
    files = Files(tmp_path, pairs[0], one)
    shutil.copy(two.certificate, files.ca)
    assert files.look() == ""
    assert files.changes == [(pairs[0].material(two), True)]
    points = [item for item in files.certificates.readings() if isinstance(item, Point)]
    labels = [item.labels[0] for item in points if item.metric is metrics.TLS_EXPIRATION]
    assert labels == ["server", "client_ca"]


def test_the_links_of_orchestrators_are_followed(tmp_path: Path, pairs: tuple[Pair, Pair]) -> None:
    """Kubernetes mounts a secret as links to ..data/NAME, where ..data is a link that it replaces."""
    for name, pair in zip(("..1", "..2"), pairs, strict=True):
        (tmp_path / name).mkdir()
        shutil.copy(pair.certificate, tmp_path / name / "tls.crt")
        shutil.copy(pair.key, tmp_path / name / "tls.key")
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    certificates = Certificates(CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key"))
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    asyncio.run(certificates.look())
    assert certificates.material == pairs[1].material()


@pytest.mark.parametrize("spoil", [corrupt, remove])
def test_files_that_cannot_be_used_fail_the_start(
    tmp_path: Path, pairs: tuple[Pair, Pair], spoil: Callable[[Files], None]
) -> None:
    files = Files(tmp_path, pairs[0])
    spoil(files)
    with pytest.raises(InvalidInput, match="tls: the certificate or its key cannot be used"):
        Certificates(CertificateFiles(files.pair.certificate, files.pair.key))
