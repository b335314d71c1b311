"""What the settings require of confinement, and which folders a worker may use."""

from pathlib import Path

import pytest

from penstock.app.confinement import confinement_mode, describe_confinement, worker_paths
from penstock.config.settings import Settings, load_settings
from penstock.core.confinement import Program
from penstock.registry.location import location_of


def settings(tmp_path: Path, **flags: object) -> Settings:
    return load_settings(None, {"home": str(tmp_path / "home"), **flags})


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ({}, "best_effort"),
        ({"auth": {"keys": True}}, "required"),
        ({"auth": {"keys": True, "dry_run": True}}, "best_effort"),
        ({"auth": {"keys": True}, "confinement": "best_effort"}, "best_effort"),
        ({"confinement": "required"}, "required"),
    ],
)
def test_every_layer_is_required_where_callers_authenticate(
    tmp_path: Path, flags: dict[str, object], mode: str
) -> None:
    stated = settings(tmp_path, **flags)
    assert confinement_mode(stated) == mode
    assert describe_confinement(stated)["mode"] == mode
    assert set(describe_confinement(stated)) == {"mode", *Program}


def test_a_worker_reads_contents_and_writes_answers_and_captures(tmp_path: Path) -> None:
    stated = settings(tmp_path)
    home = tmp_path / "home"
    paths = worker_paths(stated, location_of("", stated.home, ""))
    assert set(paths.readable) == {home / "blobs" / "sha256", *(home / n for n in ("unpacked", "copies", "references"))}
    assert set(paths.writable) == {home / "answers", home / "captures"}
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (*paths.readable, *paths.writable))


def test_clients_segments_are_in_shared_memory_and_contents_of_a_bucket_in_the_cache(tmp_path: Path) -> None:
    stated = settings(tmp_path, shared_memory=("images-*",))
    paths = worker_paths(stated, location_of("", stated.home, "s3://bucket/prefix"))
    assert Path("/dev/shm") in paths.writable
    assert tmp_path / "home" / "cache" / "sha256" in paths.readable
