from pathlib import Path

import pytest

from penstock.core.errors import InvalidInput
from penstock.registry.files import NamesOnly, find_beneath, read_data, read_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "model"
    (inner / "sub").mkdir(parents=True)
    (inner / "file").write_text("inside")
    (inner / "sub" / "file").write_text("deeper")
    (tmp_path / "secret").write_text("outside")
    (inner / "out").symlink_to(tmp_path / "secret")
    (inner / "away").symlink_to(tmp_path)
    (inner / "near").symlink_to("sub/file")
    (inner / "loop").symlink_to("loop")
    return inner


@pytest.mark.parametrize(("relative", "text"), [("file", "inside"), ("sub/file", "deeper"), ("near", "deeper")])
def test_files_inside_are_found(folder: Path, relative: str, text: str) -> None:
    assert read_text(find_beneath(folder, relative, "it"), "it") == text


@pytest.mark.parametrize(
    "relative",
    [
        "",
        ".",
        "..",
        "../secret",
        "sub/../../secret",
        "/etc/passwd",
        "out",
        "away/secret",
        "loop",
        "none",
        "sub",
        "a\0b",
    ],
)
def test_anything_else_is_refused_without_its_name(folder: Path, relative: str) -> None:
    with pytest.raises(InvalidInput, match=r"^it (must|lies|is) ") as caught:
        find_beneath(folder, relative, "it")
    assert "secret" not in str(caught.value)
    assert str(folder) not in str(caught.value)


def test_length_is_bounded(folder: Path) -> None:
    assert read_data(folder / "file", "it", 6) == b"inside"
    with pytest.raises(InvalidInput, match="longer than 5 bytes"):
        read_data(folder / "file", "it", 5)


def test_text_must_be_utf8(folder: Path) -> None:
    (folder / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_text(folder / "file", "it")


def test_an_unreadable_file_is_a_fault(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_data(folder / "gone", "it")


def test_names_are_taken_note_of_and_nothing_is_read() -> None:
    files = NamesOnly()
    assert files.text("labels.txt", "labels") == ""
    assert files.data("sub/weights", "weights") == b""
    with pytest.raises(InvalidInput, match="weights"):
        files.data("../secret", "weights")
    assert files.names == ["labels.txt", "sub/weights"]
