"""The console of a real gateway: by its port, behind a reverse proxy below a path, over TLS, and signed in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from tests import haproxy, harness, zoo
from tests.event_stream import EventStream
from tests.harness import PATIENCE_S, Reply, Server, call, wait_until
from tests.keys import ACCEPT_KEYS, create_key, revoke_key

PAGES = ("models", "models/echo", "models/echo/monitor", "models/echo/versions/1", "fleet", "timeline", "access")
IMPORT = re.compile(r"""(?:\bfrom\s*|\bimport\s*\(?\s*)["'](\.[^"']+)["']""")
PREFIX = "/teams/ml"
SETTINGS = """
defaults
  mode http
  timeout connect 30s
  timeout client 60s
  timeout server 60s
frontend f
  bind {address}
  default_backend b
backend b
  http-request deny unless {{ path_beg {prefix}/ }}
  http-request replace-path {prefix}/(.*) /\\1
  http-request set-header x-forwarded-proto https
  server gateway {server}
"""


class Links(HTMLParser):
    """The addresses in a page, and the attributes of its root."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.root: dict[str, str | None] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value and value[0] != "#"]
        if tag == "html":
            self.root = dict(attrs)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    zoo.save(zoo.identity("FP32"), folder / "echo" / "1" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with harness.running(models, tmp_path_factory.mktemp("open")) as running:
        yield running


@pytest.fixture(scope="module")
def closed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("closed")
    with harness.running(models, folder, env=ACCEPT_KEYS) as running:
        yield running, folder


@contextmanager
def proxy(folder: Path, gateway: str) -> Iterator[str]:
    """HAProxy that removes a prefix from paths, and says that the browser came by TLS."""
    with haproxy.started(folder, SETTINGS, f"{PREFIX}/livez", prefix=PREFIX, server=gateway) as address:
        yield address


def follow(address: str, path: str) -> tuple[str, Reply]:
    """The page that a path leads to, and its path."""
    reply = call(address, "GET", path, headers={"accept": "text/html"})
    while reply.status == 303:
        path = urljoin(path, reply.headers["location"])
        reply = call(address, "GET", path, headers={"accept": "text/html"})
    return path, reply


def crawl(address: str, page: str) -> set[str]:
    """Every file that a page loads, with all that its modules import, by path; each must be there."""
    path, reply = follow(address, page)
    assert reply.status == 200, page
    links = [urljoin(path, link) for link in Links(reply.body.decode()).found]
    files, left = set[str](), [link for link in links if "/static/" in link]
    while left:
        name = left.pop()
        if name in files:
            continue
        files.add(name)
        answer = call(address, "GET", name, headers={"accept-encoding": "gzip"})
        assert answer.status == 200, name
        assert answer.headers["content-encoding"] == "gzip"
        if name.endswith(("js", "mjs")):
            left += [urljoin(name, found) for found in IMPORT.findall(answer.inflated().decode())]
    others = {link for link in links if "/static/" not in link}
    assert all(call(address, "GET", link, headers={"accept": "text/html"}).status in (200, 303) for link in others)
    return files


def test_the_root_leads_to_the_models_without_any_set_up(server: Server) -> None:
    path, reply = follow(server.ops, "/")
    assert path == "/console/models"
    assert b"echo" in reply.body
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_a_page_is_there(server: Server, page: str) -> None:
    files = crawl(server.ops, f"/console/{page}")
    assert len(files) <= 9
    assert {urlsplit(name).path.rpartition("/")[2] for name in files} >= {"app.js", "preact.mjs", "style.css"}


def test_below_a_path_of_a_proxy_everything_stays_below_it(server: Server, tmp_path: Path) -> None:
    with proxy(tmp_path, server.ops) as address:
        path, reply = follow(address, f"{PREFIX}/")
        assert path == f"{PREFIX}/console/models"
        for page in PAGES:
            files = crawl(address, f"{PREFIX}/console/{page}")
            assert all(name.startswith(f"{PREFIX}/console/static/") for name in files)
        base = urljoin(path, Links(reply.body.decode()).root["data-base"] or "")
        assert base == f"{PREFIX}/"
        with EventStream(address, f"{base}admin/v1/stream?topics=overview") as stream:
            assert stream.wait_for("overview")["models"][0]["name"] == "echo"


def sign_in(address: str, key: str, prefix: str = "") -> Reply:
    form = urlencode({"credential": key, "next": "/console/fleet"}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{address}"}
    return call(address, "POST", f"{prefix}/console/sign-in", form, {**headers, "sec-fetch-site": "same-origin"})


def test_signing_in_works_behind_the_proxy_and_its_cookie_is_secure(
    closed: tuple[Server, Path], tmp_path: Path
) -> None:
    server, folder = closed
    key = create_key(folder, "proxied", "viewer")
    with proxy(tmp_path, server.ops) as address:
        path, reply = follow(address, f"{PREFIX}/console/models?q=x")
        assert path.startswith(f"{PREFIX}/console/sign-in?next=%2Fconsole%2Fmodels%3Fq%3Dx")
        assert reply.status == 200
        signed_in = sign_in(address, key, PREFIX)
        assert urljoin(f"{PREFIX}/console/sign-in", signed_in.headers["location"]) == f"{PREFIX}/console/fleet"
        cookie = signed_in.headers["set-cookie"]
        assert cookie.startswith("__Host-penstock-session=") and cookie.endswith("; Secure")
        page = call(address, "GET", f"{PREFIX}/console/fleet", headers={"cookie": cookie.partition(";")[0]})
        assert b"Signed in as proxied" in page.body


def test_a_session_changes_things_by_its_token_and_ends_with_the_key(closed: tuple[Server, Path]) -> None:
    server, folder = closed
    key = create_key(folder, "browser", "admin")
    cookie = {"cookie": sign_in(server.ops, key).headers["set-cookie"].partition(";")[0]}
    page = call(server.ops, "GET", "/console/models", headers=cookie)
    token = Links(page.body.decode()).root["data-csrf"] or ""
    route, body = "/admin/v1/models/echo/route", {"split": {"1": 10_000}, "reason": "by page"}
    assert server.admin("PUT", route, body, cookie).status == 403
    assert server.admin("PUT", route, body, {**cookie, "penstock-csrf": token}).status == 200
    foreign = {**cookie, "penstock-csrf": token, "origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    assert server.admin("PUT", route, body, foreign).status == 403
    entries = server.as_owner("GET", "/admin/v1/audit?model=echo").json()["entries"]
    assert [entry["actor"] for entry in entries if entry["action"] == "route.set"] == ["browser"]

    with EventStream(server.ops, "/admin/v1/stream?topics=overview", cookie) as stream:
        stream.wait_for("overview")
        revoke_key(folder, "browser")
        wait_until(lambda: not stream.is_open, PATIENCE_S, "the end of the stream")
    assert server.admin("GET", "/admin/v1/whoami", headers=cookie).status == 401
    assert call(server.ops, "GET", "/console/models", headers={**cookie, "accept": "text/html"}).status == 303


def test_signing_out_ends_the_session_and_its_stream(closed: tuple[Server, Path]) -> None:
    server, folder = closed
    key = create_key(folder, "leaving", "viewer")
    cookie = {"cookie": sign_in(server.ops, key).headers["set-cookie"].partition(";")[0]}
    token = Links(call(server.ops, "GET", "/console/models", headers=cookie).body.decode()).root["data-csrf"] or ""
    headers = {**cookie, "content-type": "application/x-www-form-urlencoded"}
    form = urlencode({"csrf": token}).encode()
    with EventStream(server.ops, "/admin/v1/stream?topics=overview", cookie) as stream:
        stream.wait_for("overview")
        assert call(server.ops, "POST", "/console/sign-out", form, headers).status == 303
        wait_until(lambda: not stream.is_open, PATIENCE_S, "the end of the stream")
    assert server.admin("GET", "/admin/v1/whoami", headers=cookie).status == 401
    assert server.admin("GET", "/admin/v1/whoami", headers={"authorization": f"Bearer {key}"}).status == 200
