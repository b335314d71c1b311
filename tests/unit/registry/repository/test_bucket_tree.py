"""A repository in a bucket: what a listing said is read until the next one; later changes are noticed."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from penstock.core.errors import InvalidInput, NotReady, TooLarge
from penstock.registry.repository.bucket_tree import BucketTree
from penstock.registry.repository.tree import find


class Objects(ThreadingHTTPServer):
    """The part of the S3 API that a repository needs, for one bucket; counts what is fetched."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.objects: dict[str, bytes] = {}
        self.fetched: list[str] = []


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class _Answers(BaseHTTPRequestHandler):
    server: Objects

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix("/models").lstrip("/")
        if not key:
            prefix = parse_qs(url.query).get("prefix", [""])[0]
            found = "".join(
                f"<Contents><Key>{key}</Key><Size>{len(data)}</Size><ETag>{_etag(data)}</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for key, data in self.server.objects.items()
                if key.startswith(prefix)
            )
            self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode())
        elif key not in self.server.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif self.headers.get("if-match", _etag(self.server.objects[key])) != _etag(self.server.objects[key]):
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.server.fetched.append(key)
            self._range(self.server.objects[key])

    def _range(self, data: bytes) -> None:
        begin, end = (int(item) for item in self.headers["range"].removeprefix("bytes=").split("-"))
        part = data[begin : end + 1]
        self._answer(206, part, {"content-range": f"bytes {begin}-{begin + len(part) - 1}/{len(data)}"}, _etag(data))

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, etag: str = "") -> None:
        self.send_response(status)
        defaults = {
            "content-length": str(len(body)),
            "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            **(headers or {}),
        }
        for name, value in {**defaults, **({"etag": etag} if etag else {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    with Objects() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield server
        server.shutdown()
        thread.join()


def test_keys_are_folders_and_files_and_odd_ones_are_left_out(bucket: Objects) -> None:
    bucket.objects = dict.fromkeys(("p/m/1/model.onnx", "p/m/config.pbtxt", "p/m", "p/.hidden/x", "q/other"), b"data")
    tree = BucketTree("s3://models/p")
    assert tree.entries("") == []
    tree.refresh()
    assert [(entry.name, entry.is_folder) for entry in tree.entries("")] == [("m", True)]
    assert [(entry.name, entry.is_folder) for entry in tree.entries("m")] == [("1", True), ("config.pbtxt", False)]
    assert tree.entries("nowhere") == []
    before = find(tree, "m/config.pbtxt")
    bucket.objects["p/m/config.pbtxt"] = b"more data"
    assert find(tree, "m/config.pbtxt") == before  # until the next look
    tree.refresh()
    assert find(tree, "m/config.pbtxt") != before


def test_a_text_is_fetched_once_for_each_content(bucket: Objects) -> None:
    bucket.objects = {"p/a": "\ufeffone".encode(), "p/b": b"\xff", "p/gone": b"x"}
    tree = BucketTree("s3://models/p")
    tree.refresh()
    assert [tree.read("a", "the file") for _ in range(3)] == ["one"] * 3
    assert bucket.fetched == ["p/a"]
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        tree.read("b", "the file")
    with pytest.raises(InvalidInput, match="is missing"):
        tree.read("c", "the file")
    del bucket.objects["p/gone"]
    with pytest.raises(InvalidInput, match="is missing"):
        tree.read("gone", "the file")
    bucket.objects["p/a"] = b"two"
    tree.refresh()
    assert tree.read("a", "the file") == "two"


def test_a_copy_has_the_bytes_of_the_last_look_or_is_refused(bucket: Objects, tmp_path: Path) -> None:
    bucket.objects = {"p/a": b"x" * 1000}
    tree = BucketTree("s3://models/p")
    tree.refresh()
    tree.copy("a", tmp_path / "a", 1000)
    assert (tmp_path / "a").read_bytes() == b"x" * 1000
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400
    with pytest.raises(TooLarge):
        tree.copy("a", tmp_path / "b", 999)
    bucket.objects["p/a"] = b"y" * 1000
    with pytest.raises(NotReady):
        tree.copy("a", tmp_path / "c", 1000)
    del bucket.objects["p/a"]
    with pytest.raises(NotReady, match="was deleted"):
        tree.copy("a", tmp_path / "d", 1000)
