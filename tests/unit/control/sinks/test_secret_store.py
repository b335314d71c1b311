"""The secrets of the configuration: read when they are used, refused where others may read them."""

import os
import sys
from pathlib import Path

import pytest

from penstock.control.sinks.environment import clean_environment
from penstock.control.sinks.secret_store import COMMAND_S, MOST_BYTES, SecretSource, SecretStore, read_secret_file
from penstock.core.secrets import MissingSecret, Secret, SecretFault


def written(path: Path, content: bytes = b"planted\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_file_is_read_at_each_use(tmp_path: Path) -> None:
    store = SecretStore({"a": SecretSource(written(tmp_path / "a"))})
    assert store.get("a").reveal() == b"planted"
    written(tmp_path / "a", b"new")
    assert store.get("a").reveal() == b"new"
    assert store.faults() == []


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    store = SecretStore({"a": SecretSource(written(tmp_path / "a", mode=mode))})
    with pytest.raises(SecretFault, match="chmod 600") as found:
        store.get("a")
    assert "planted" not in str(found.value)
    assert len(store.faults()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_group_may_read_files_of_root_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "a", mode=0o640)
    assert read_secret_file(path, "a").reveal() == b"planted"  # as container platforms mount them
    os.chown(path, 65534, 65534)
    with pytest.raises(SecretFault, match="chmod 600"):
        read_secret_file(path, "a")


def test_a_secret_that_is_not_a_file_or_too_long_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, fault in ((tmp_path, "is not a file|Is a directory"), (tmp_path / "pipe", "is not a file")):
        with pytest.raises(SecretFault, match=fault):
            read_secret_file(path, "a")
    with pytest.raises(SecretFault, match="longer than"):
        read_secret_file(written(tmp_path / "long", b"x" * (MOST_BYTES + 1)), "a")
    with pytest.raises(MissingSecret, match="No such file"):
        read_secret_file(tmp_path / "nothing", "a")
    with pytest.raises(MissingSecret, match="no secret 'b'"):
        SecretStore().get("b")


def test_a_variable_is_known_by_its_value() -> None:
    store = SecretStore({"a": SecretSource(value=Secret("A", b"planted")), "b": SecretSource()})
    assert store.get("a").reveal() == b"planted"
    with pytest.raises(MissingSecret, match="variable of the secret 'b' is not set"):
        store.get("b")
    assert store.faults() == ["the environment variable of the secret 'b' is not set"]


def test_a_command_prints_a_secret_which_is_used_for_a_minute(tmp_path: Path) -> None:
    now, runs = [0.0], tmp_path / "runs"
    script = f"open({str(runs)!r}, 'a').write('x'); print('planted')"
    store = SecretStore({"a": SecretSource(command=(sys.executable, "-c", script))}, lambda: now[0])
    assert store.faults() == []
    assert store.is_printed("a")
    assert not runs.exists()
    for _ in range(2):
        assert store.get("a").reveal() == b"planted"
    now[0] = 61.0
    store.get("a")
    assert runs.read_text() == "xx"


@pytest.mark.parametrize("script", ["raise SystemExit(1)", f"print('x' * {MOST_BYTES + 1})"])
def test_the_output_of_a_failed_command_is_not_a_secret(script: str) -> None:
    store = SecretStore({"a": SecretSource(command=(sys.executable, "-c", script))})
    with pytest.raises(SecretFault, match="failed, did not end, or printed too much"):
        store.get("a")
    with pytest.raises(SecretFault, match="cannot be run"):
        SecretStore({"a": SecretSource(command=("/nothing/here",))}).get("a")


def test_a_command_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COMMAND_S > 1
    monkeypatch.setattr("penstock.control.sinks.secret_store.COMMAND_S", 0.2)
    store = SecretStore({"a": SecretSource(command=("sleep", "600"))})
    with pytest.raises(SecretFault, match="failed"):
        store.get("a")


def test_commands_get_nothing_secret() -> None:
    kept = {"PATH": "/bin", "HOME": "/root", "LANG": "C", "PENSTOCK_HOME": "/data", "PENSTOCK_TOKEN_FILE": "/run/t"}
    secret = {
        "PENSTOCK_REGISTRY": "postgresql://u:p@h/db",
        "PENSTOCK_PROMETHEUS__URL": "http://h/?token=x",
        "PENSTOCK_SECRETS": "{}",
        "PENSTOCK_SINKS__HOOK": "{}",
        "PENSTOCK_AUTH__KEYS": "x",
        "PENSTOCK_TOKEN": "x",
        "PGPASSWORD": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "MLFLOW_TRACKING_TOKEN": "x",
        "LD_PRELOAD": "x",
    }
    assert clean_environment({**kept, **secret}) == kept
