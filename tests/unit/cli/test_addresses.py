"""Where commands find a gateway: by --url, by the settings, and by the socket in its home."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
import typer

from penstock.app.owner_socket import OwnerSocket
from penstock.cli.addresses import health_address, local_address, ops_address, page_address, running_gateway
from penstock.cli.connections import open_connection
from penstock.cli.open_console import has_display
from penstock.cli.tls import TlsAddress
from penstock.control.instance.ports import local_form
from penstock.registry.location import location_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPS_PORT", "OPS_HOST", "HOST", "REGISTRY", "CONFIG"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost:8002", "localhost:8002"),
        ("http://[::1]:8002/", "[::1]:8002"),
        ("https://localhost:8002", TlsAddress("localhost:8002")),
        ("https://[::1]:8002/", TlsAddress("[::1]:8002")),
        ("https://gateway.example", TlsAddress("gateway.example:443")),
        ("unix:/run/penstock/ops.sock", Path("/run/penstock/ops.sock")),
        ("unix:ops.sock", Path.cwd() / "ops.sock"),
    ],
)
def test_an_ops_port_or_a_socket_may_be_named(url: str, address: str | Path | TlsAddress) -> None:
    assert ops_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "ftp://localhost:1",
        "localhost:99999",
        "/run/ops.sock",
        "https://",
        "https://a:99999",
        "https://a/b",
    ],
)
def test_anything_else_is_a_mistake(url: str) -> None:
    with pytest.raises(typer.Exit):
        ops_address(url)


def test_the_ops_port_has_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOST", "0.0.0.0")
    assert (local_address("http"), local_address("ops")) == ("127.0.0.1:8000", "127.0.0.1:8002")
    monkeypatch.setenv("PENSTOCK_OPS_HOST", "::")
    assert local_address("ops") == "[::1]:8002"
    monkeypatch.setenv("PENSTOCK_OPS_HOST", "fe80::1")
    assert local_address("ops") == "[fe80::1]:8002"


def test_health_is_asked_by_the_socket_unless_a_port_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health_address() == "127.0.0.1:8002"
    with closing(OwnerSocket(home).listen()):
        assert health_address() == home / "ops.sock"
        monkeypatch.setenv("PENSTOCK_OPS_PORT", "9002")
        assert health_address() == "127.0.0.1:9002"


def test_a_socket_without_a_gateway_is_skipped(home: Path) -> None:
    OwnerSocket(home).listen().close()
    assert running_gateway(location_of("", home, ""), by_settings=False) is None


def test_requests_by_a_socket_name_localhost(home: Path) -> None:
    with closing(OwnerSocket(home).listen()) as listener, closing(open_connection(home / "ops.sock", 5.0)) as client:
        client.request("GET", "/livez")
        accepted, _ = listener.accept()
        with closing(accepted):
            request = accepted.recv(4096)
    assert b"\r\nHost: localhost\r\n" in request


def test_the_settings_or_the_record_say_that_a_port_has_tls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"http": "0.0.0.0:8000", "ops": "127.0.0.1:9002", "pid": os.getpid(), "certificate_file": "/a.pem"}
    (home / "gateway.json").write_text(json.dumps(record))
    assert local_address("http") == TlsAddress("127.0.0.1:8000", Path("/a.pem"))
    assert local_address("grpc") == "127.0.0.1:8001"  # no gateway has said so of this port
    (home / "gateway.json").write_text(json.dumps(record | {"pid": 1 << 30}))
    assert local_address("http") == "127.0.0.1:8000"
    monkeypatch.setenv("PENSTOCK_TLS__CERTIFICATE_FILE", "/b.pem")
    monkeypatch.setenv("PENSTOCK_TLS__KEY_FILE", "/b.key")
    assert local_address("grpc") == TlsAddress("127.0.0.1:8001", Path("/b.pem"))


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("0.0.0.0:8002", "127.0.0.1:8002"),
        ("[::]:8002", "[::1]:8002"),
        ("[fe80::1]:8002", "[fe80::1]:8002"),
        ("10.0.0.7:8002", "10.0.0.7:8002"),
    ],
)
def test_a_browser_opens_loopback_in_place_of_every_interface(address: str, local: str) -> None:
    assert local_form(address) == local


def test_a_browser_cannot_open_a_socket(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        page_address("unix:/run/penstock/ops.sock", None)
    assert (ended.value.exit_code, "HOST:PORT" in capsys.readouterr().err) == (2, True)


def test_a_console_without_a_gateway_is_unavailable(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for registry in (None, str(home)):
        with pytest.raises(typer.Exit) as ended:
            page_address(None, registry)
        assert (ended.value.exit_code, "penstock serve" in capsys.readouterr().err) == (7, True)


def test_a_browser_is_started_only_where_there_is_a_display() -> None:
    assert not has_display({"TERM": "xterm"})
    assert has_display({"WAYLAND_DISPLAY": "wayland-0"})
