"""Copies of references on the disk: by digest, and the index; what cannot be read is not there."""

from pathlib import Path

from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.registry.records import Document

EMPTY: Document = {"references": [], "policies": {}}


def test_a_reference_is_found_by_its_digest_and_a_torn_one_is_not(tmp_path: Path) -> None:
    files = ReferenceFiles(tmp_path / "references")
    assert files.read("sha256:ab") is None
    files.write("sha256:ab", {"rows": 3})
    assert files.path("sha256:ab") == tmp_path / "references" / "ab.json"
    assert files.read("sha256:ab") == {"rows": 3}
    files.path("sha256:ab").write_text('{"rows"')
    assert files.read("sha256:ab") is None


def test_the_index_is_what_was_written_last_and_written_only_where_it_differs(tmp_path: Path) -> None:
    files = ReferenceFiles(tmp_path / "references")
    assert files.read_index() == EMPTY
    known: Document = {"references": [["m", "1", "sha256:ab"]], "policies": {"m": {}}}
    files.write_index(known)
    assert ReferenceFiles(files.folder).read_index() == known
    written = (files.folder / "index.json").stat().st_ino
    files.write_index(known)
    assert (files.folder / "index.json").stat().st_ino == written
    files.write_index(EMPTY)
    assert files.read_index() == EMPTY


def test_a_folder_that_cannot_be_made_loses_the_index_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = ReferenceFiles(tmp_path / "file" / "references")
    files.write_index({"references": [1], "policies": {}})
    assert files.read_index() == EMPTY
