"""What an MLflow server has registered, read page by page; names that cannot be used here are passed over."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from penstock.core.errors import NotReady, Refused
from penstock.registry.mlflow import source
from penstock.registry.mlflow.source import MlflowSource, MlflowVersion
from penstock.registry.signing.signer import sign_path
from tests.unit.registry.signing.keys_of_tests import private_key

API = "/api/2.0/mlflow/"


class Tracking(ThreadingHTTPServer):
    """The part of MLflow's REST API that is asked: pages of models, versions of one, and runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.pages: list[list[dict[str, Any]]] = [[]]
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.run: dict[str, Any] = {}
        self.broken = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        if path.endswith("registered-models/search"):
            page = int(query.get("page_token", ["0"])[0])
            more = {"next_page_token": str(page + 1)} if page + 1 < len(self.pages) else {}
            return {"registered_models": self.pages[page], **more}
        if path.endswith("model-versions/search"):
            name = query["filter"][0].removeprefix("name='").removesuffix("'")
            return {"model_versions": [{"name": name, **version} for version in self.versions.get(name, [])]}
        return {"run": self.run}


class _Answers(BaseHTTPRequestHandler):
    server: Tracking

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = json.dumps(self.server.answer(url.path, parse_qs(url.query))).encode()
        self.send_response(500 if self.server.broken else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracking]:
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "1")
    with Tracking() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_every_ready_version_of_every_page_is_wanted_with_its_aliases(tracking: Tracking) -> None:
    tracking.pages = [
        [{"name": "net", "aliases": [{"alias": "champion", "version": "2"}, {"alias": "9 no", "version": "2"}]}],
        [{"name": "no name"}, {"name": "tree"}],
    ]
    tracking.versions = {
        "net": [{"version": "1", "status": "FAILED_REGISTRATION"}, {"version": "2", "status": "READY", "run_id": "r"}],
        "tree": [{"version": "1", "status": "READY"}],
    }
    source = MlflowSource(tracking.url)
    assert source.wanted() == [MlflowVersion("net", "2", "r", ("champion",)), MlflowVersion("tree", "1")]
    assert MlflowSource(tracking.url, ["tree"]).wanted() == [MlflowVersion("tree", "1")]
    tracking.versions["tree"].append({"version": "2", "status": "READY"})
    assert MlflowVersion("tree", "2") in source.wanted()  # nothing of before is kept


def test_lineage_is_what_the_run_says_as_far_as_it_fits(tracking: Tracking) -> None:
    tracking.run = {
        "info": {"run_id": "r", "status": "FINISHED"},
        "data": {
            "params": [{"key": "depth", "value": "3"}, {"key": "x" * 1000, "value": "too long a name"}],
            "metrics": [{"key": "accuracy", "value": 0.75, "timestamp": 1, "step": 0}],
            "tags": [{"key": "mlflow.source.git.commit", "value": "0123456789abcdef0123456789abcdef01234567"}],
        },
    }
    source = MlflowSource(tracking.url)
    metadata = source.lineage(MlflowVersion("net", "2", "r"))
    assert metadata["parameters"] == {"depth": "3"}
    assert metadata["metrics"] == {"accuracy": 0.75}
    assert metadata["code_commit"] == "0123456789abcdef0123456789abcdef01234567"
    assert metadata["tags"] == {"mlflow.version": "2", "mlflow.run_id": "r"}
    assert source.lineage(MlflowVersion("net", "2")) == {"source": "mlflow", "tags": {"mlflow.version": "2"}}


def test_a_server_that_fails_is_not_ready_and_asked_again(tracking: Tracking) -> None:
    tracking.pages = [[{"name": "tree"}]]
    tracking.versions = {"tree": [{"version": "1", "status": "READY"}]}
    source = MlflowSource(tracking.url)
    tracking.broken = True
    with pytest.raises(NotReady, match="MLflow"):
        source.wanted()
    tracking.broken = False
    assert source.wanted() == [MlflowVersion("tree", "1")]


def test_every_signed_file_of_a_version_is_taken_with_its_signature(tmp_path: Path) -> None:
    for name, content in (("MLmodel", b"flavors"), ("model.onnx", b"graph"), ("data/weights", b"1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model.sig").write_text(sign_path(tmp_path, private_key(), tmp_path / "model.sig"))
    (tmp_path / "more").write_bytes(b"added later")
    assert set(source._signed_files(tmp_path)) == {"MLmodel", "model.onnx", "data/weights", "model.sig"}
    (tmp_path / "MLmodel").unlink()
    with pytest.raises(Refused, match="a signed file is missing"):
        source._signed_files(tmp_path)
    (tmp_path / "model.sig").write_text("{}")
    with pytest.raises(Refused, match="not a Sigstore bundle"):
        source._signed_files(tmp_path)
