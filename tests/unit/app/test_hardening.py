"""Homes that others could enter, and what is taken off them."""

import logging
import pwd
import stat
from pathlib import Path

import pytest

from penstock.app.hardening import is_own_home, provide_user_folder, tighten_contents, tighten_home
from penstock.control.retention import FILES, FOLDERS


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_user_without_an_entry_has_the_root_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nobody(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", find_nobody)
    provide_user_folder()
    assert Path.home() == Path("/")
    monkeypatch.setenv("HOME", "/somewhere")
    provide_user_folder()
    assert Path.home() == Path("/somewhere")


def test_a_home_is_closed_to_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    with caplog.at_level(logging.INFO, "penstock.app"):
        tighten_home(home, "")
        tighten_home(home, "")
        tighten_home(tmp_path / "missing", "")
    assert mode(home) == 0o700
    assert len(caplog.records) == 1


def test_only_a_folder_for_penstock_alone_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    assert not is_own_home(home, "")  # it is made later, by this process
    home.mkdir()
    assert is_own_home(home, "")
    assert is_own_home(home, str(home))
    assert is_own_home(home, "postgresql://host/name")
    assert not is_own_home(home, f"sqlite:///{home}/registry.db")
    monkeypatch.setenv("HOME", str(home))
    assert not is_own_home(home, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    home.chmod(0o1777)
    assert not is_own_home(home, "")
    assert not is_own_home(Path("/"), "")


def test_the_files_of_penstock_are_closed_and_no_others(tmp_path: Path) -> None:
    own = [tmp_path / "registry.db", tmp_path / "blobs" / "sha256" / "ab" / "x", tmp_path / "captures" / "a.rows"]
    other = [tmp_path / "notes.md", tmp_path / "src" / "main.py"]
    for path in (*own, *other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o644)
    (tmp_path / "blobs" / "sha256").chmod(0o755)
    outside = tmp_path / "src" / "main.py"
    (tmp_path / "blobs" / "link").symlink_to(outside)
    assert tighten_contents(tmp_path, "", FOLDERS, FILES) >= len(own)
    assert {mode(path) for path in own} == {0o600}
    assert mode(tmp_path / "blobs" / "sha256") == 0o700
    assert {mode(path) for path in other} == {0o644}
    assert tighten_contents(tmp_path, "", FOLDERS, FILES) == 0
    assert tighten_contents(tmp_path / "missing", "", FOLDERS, FILES) == 0
