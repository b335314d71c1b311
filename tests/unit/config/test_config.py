"""Where settings come from, which of them wins, and how errors are reported."""

import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from penstock.config.documents import ConfigFault
from penstock.config.sections import LimitSettings
from penstock.config.settings import Settings, find_ignored_variables, load_settings, settings_document, settings_schema
from penstock.control.instance.options import WorkerOptions
from penstock.core.limits import RequestLimits


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "HTTP_PORT", "GRPC_PORT", "OPS_PORT", "HOST", "WORKERS"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)


def write(folder: Path, text: str) -> Path:
    path = folder / "penstock.yaml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()
    assert (settings.host, settings.http_port, settings.grpc_port, settings.ops_port) == ("127.0.0.1", 8000, 8001, 8002)
    assert settings.workers == 1
    assert settings.limits.max_body_bytes == 64 << 20
    assert settings.limits.deadline_seconds == 60
    assert settings.limits.max_json_bytes == 8 << 20


def test_limits_of_one_request_are_the_same_wherever_they_are_stated() -> None:
    limits, worker = LimitSettings(), WorkerOptions("127.0.0.1", 0, 0)
    bounds = {name: value for name, value in asdict(RequestLimits()).items() if not name.endswith("_setting")}
    for name, value in bounds.items():
        assert (getattr(limits, name), getattr(worker, name)) == (value, value)
    assert limits.max_connections == worker.max_connections


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_json_bytes", 10), ("max_output_bytes", 2**31), ("max_elements", 0), ("max_text_elements", -1),
     ("memory_bytes", 1024), ("max_connections", 0), ("freeze_seconds", 0.1), ("freeze_seconds", float("nan"))],
)  # fmt: skip
def test_a_limit_that_nothing_could_pass_is_a_fault(name: str, value: float) -> None:
    with pytest.raises(ConfigFault, match=f"limits.{name}"):
        load_settings(flags={f"limits.{name}": value})


def test_flag_before_environment_before_file_before_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "http_port: 1\ngrpc_port: 1\nops_port: 1\nstop: {drain_delay_seconds: 1.5}\n")
    monkeypatch.setenv("PENSTOCK_HTTP_PORT", "2")
    monkeypatch.setenv("PENSTOCK_GRPC_PORT", "2")
    monkeypatch.setenv("PENSTOCK_STOP__ORPHAN_GRACE_SECONDS", "2.5")
    settings = load_settings(file, {"http_port": 3, "host": None, "stop.drain_timeout_seconds": 3.5})
    assert (settings.http_port, settings.grpc_port, settings.ops_port) == (3, 2, 1)
    stop = settings.stop
    assert (stop.drain_delay_seconds, stop.orphan_grace_seconds, stop.drain_timeout_seconds) == (1.5, 2.5, 3.5)
    assert settings.host == "127.0.0.1"


def test_every_error_is_reported_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "http_prt: 1\nworkers: many\nstop: {drain_delay_seconds: -1, x: 1}\nops_port: 70000\n")
    with pytest.raises(ConfigFault) as caught:
        load_settings(file, {"grpc_port": -1})
    text = str(caught.value)
    assert len(caught.value.faults) == 6
    for part in ("http_prt is not a setting", "workers", "auto", "stop.drain_delay_seconds", "stop.x", "70000", "-1"):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [\n", "not valid YAML"),
        ("- 1\n", "not a mapping"),
        ("\0", "not valid YAML"),
        ("!!python/object:os.system {}\n", "not valid YAML"),
    ],
)
def test_a_file_that_holds_no_settings_is_a_fault(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ConfigFault, match=part):
        load_settings(write(tmp_path, text))


def test_a_missing_file_is_a_fault_beside_the_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault) as caught:
        load_settings(tmp_path / "missing.yaml", {"http_port": -1})
    assert len(caught.value.faults) == 2


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "")) == load_settings()


@pytest.mark.parametrize("value", ["tcp://10.0.0.1:8000", "udp://[fd00::1]:8000"])
def test_variables_of_a_kubernetes_service_are_not_settings(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HTTP_PORT", value)
    monkeypatch.setenv("PENSTOCK_HTTP_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("PENSTOCK_GRPC_PORT", "9001")
    monkeypatch.setenv("PENSTOCK_PORT", value)
    assert (load_settings().http_port, load_settings().grpc_port) == (8000, 9001)
    (sentence,) = find_ignored_variables(os.environ)
    assert "PENSTOCK_HTTP_PORT" in sentence and "enableServiceLinks: false" in sentence


@pytest.mark.parametrize(("value", "variable"), [("tcp://10.0.0.1:8000", "PENSTOCK_OTHER"), ("x", "PENSTOCK_HTTP")])
def test_what_only_looks_like_a_service_is_refused(value: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HTTP_PORT", value)
    monkeypatch.setenv(f"{variable}_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigFault, match="http_port: expected"):
        load_settings()
    assert find_ignored_variables(os.environ) == []


def test_a_broken_section_in_the_environment_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_LIMITS", "no json")
    with pytest.raises(ConfigFault, match="limits"):
        load_settings()


@pytest.mark.parametrize("value", ["auto", 1, "3", 256])
def test_workers_are_a_number_or_auto(value: object) -> None:
    assert load_settings(flags={"workers": value}).workers in {"auto", 1, 3, 256}


@pytest.mark.parametrize("value", ["0", 257, "all", 1.5])
def test_other_worker_counts_are_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(ConfigFault, match="expected a number from 1 to 256, or auto") as caught:
        load_settings(flags={"workers": value})
    assert len(caught.value.faults) == 1


def test_what_is_shown_can_be_read_back(tmp_path: Path) -> None:
    settings = load_settings(flags={"http_port": 9, "ready_file": tmp_path / "ready.json"})
    document = {name: value for name, value in settings_document(settings).items() if value is not None}
    assert load_settings(flags={}, file=write(tmp_path, json.dumps(document))) == settings


def test_the_schema_knows_every_setting() -> None:
    schema = settings_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(settings_document(load_settings()))
    assert all("description" in item or "$ref" in item for item in schema["properties"].values())


# Secrets.

PLANTED = "planted"
SECRETIVE = f"""\
registry: "postgresql://user:{PLANTED}@x/{PLANTED}@db.example/models?password={PLANTED}"
prometheus: {{url: "http://{PLANTED}@prometheus.example/?token={PLANTED}"}}
mlflow: {{url: "https://u:{PLANTED}@mlflow.example/?a=b@{PLANTED}", webhook_secret: key}}
secrets:
  key: {{file: /run/secrets/key}}
  printed: {{command: [vault, read, {PLANTED}]}}
sinks:
  hook: {{webhook: {{url: "https://hooks.example/x?token={PLANTED}", secret: key}}}}
  train: {{command: {{argv: [train, --password, {PLANTED}]}}}}
"""


def test_no_secret_is_shown(tmp_path: Path) -> None:
    shown = settings_document(load_settings(write(tmp_path, SECRETIVE)))
    assert PLANTED not in str(shown)
    assert shown["registry"] == "postgresql://***@db.example/models?***"
    assert shown["prometheus"]["url"] == "http://***@prometheus.example/?***"
    assert shown["secrets"]["printed"]["command"] == ["vault", "***", "***"]
    assert shown["sinks"]["train"]["command"]["argv"] == ["train", "***", "***"]
    assert PLANTED in load_settings(write(tmp_path, SECRETIVE)).registry


@pytest.mark.parametrize(
    "text",
    [
        f"secrets: {{key: {PLANTED}}}",
        f"secrets: {{key: {{value: {PLANTED}}}}}",
        f"secrets: {{key: {{env: '{PLANTED} x'}}}}",
        f"secrets: [{PLANTED}]",
        f"sinks: {{hook: {PLANTED}}}",
        f"sinks: {{hook: {{webhook: {PLANTED}}}}}",
        f"prometheus: {{url: 'db.example?{PLANTED}'}}",
        f"mlflow: {{url: '{PLANTED}'}}",
        f"host: ['{PLANTED}']",
        f"http_port: 'http://{PLANTED}@x'",
        f"sink_hosts: ['http://{PLANTED}@x']",
        f"registry: {PLANTED}: {PLANTED}",
        f'registry: "{PLANTED}',
        f"registry: *{PLANTED} x: y",
    ],
)
def test_no_error_repeats_a_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        load_settings(write(tmp_path, text + "\n"))
    assert PLANTED not in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize("text", ["{}", "{file: /a, env: B}", "{env: B, command: [c]}"])
def test_a_secret_has_one_source(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigFault, match="expected one of file, env and command"):
        load_settings(write(tmp_path, f"secrets: {{key: {text}}}\n"))


def test_the_value_of_a_variable_is_kept_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", f"{PLANTED}\n")
    settings = load_settings(write(tmp_path, "secrets: {key: {env: HOOK_KEY}, other: {env: NOT_SET}}\n"))
    monkeypatch.delenv("HOOK_KEY")
    value = settings.secrets["key"].value
    assert value is not None
    assert value.reveal() == PLANTED.encode()
    assert settings.secrets["other"].value is None
    assert PLANTED not in f"{settings!r} {settings} {settings_document(settings)}"


def test_no_variable_of_another_meaning_has_the_name_of_a_setting() -> None:
    """A command of a sink gets some, and calls penstock: it would read them as settings."""
    source = Path(__file__).parents[3] / "src" / "penstock"
    literals = {name for file in source.rglob("*.py") for name in re.findall(r'"PENSTOCK_([A-Z_]+)"', file.read_text())}
    assert {"EVENT", "MODEL", "ROWS"} <= literals
    assert literals & {name.upper() for name in Settings.kinds} == {"HOME"}
