"""The guards of the tests of the console: a page that does what no page may do fails its test."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import AXE, HOW, GuardedPage, needs_chromium, violations
from tests.harness import Server

pytestmark = needs_chromium

HEAD = '<!doctype html><html lang="en"><head><title>A page</title></head><body><main><h1>A page</h1>'
PAGES = {
    "/good": f"{HEAD}<p>Nothing more.</p></main></body></html>",
    "/elsewhere": f'{HEAD}<img alt="a picture" src="http://198.51.100.7/pixel.png"></main></body></html>',
    "/inline": f"{HEAD}<script>window.ran = true</script></main></body></html>",
    "/missing": f'{HEAD}<img alt="a picture" src="/nothing.png"></main></body></html>',
    "/favicon.ico": "",
    "/script.js": "console.error('it went wrong'); throw new Error('it broke')",
    "/broken": f'{HEAD}<script src="/script.js"></script></main></body></html>',
    "/unlabelled": f'{HEAD}<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></main></body></html>',
    "/button": f"{HEAD}<button>Push</button></main></body></html>",
    "/wide": f"{HEAD}<table><tr><td>{'wide' * 400}</td></tr></table></main></body></html>",
}
CLIP = """() => {
    document.querySelector("main").style.overflow = "hidden";
    document.querySelector("button").style.marginLeft = "330px";
}"""
POLICY = "default-src 'self'; img-src 'self' data: http://198.51.100.7; script-src 'self'"


class Pages(BaseHTTPRequestHandler):
    """Serves the pages."""

    def do_GET(self) -> None:
        found = PAGES.get(self.path)
        self.send_response(404 if found is None else 200)
        self.send_header("content-type", "text/javascript" if self.path.endswith(".js") else "text/html")
        self.send_header("content-security-policy", POLICY)
        self.end_headers()
        self.wfile.write((found or "").encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[Server]:
    """A server of pages in place of a gateway: no process, only an address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    pages = Server.__new__(Server)
    pages.ops, pages.log = f"127.0.0.1:{server.server_port}", Path(os.devnull)
    yield pages
    server.shutdown()
    server.server_close()
    thread.join()


def faults_of(browser: Browser, site: Server, path: str) -> str:
    """The faults of a page, "" for none."""
    page = GuardedPage(browser, site)
    page.open(path).wait_for_load_state("networkidle")
    try:
        page.close()
    except AssertionError as fault:
        return str(fault)
    return ""


def test_a_page_that_does_nothing_of_the_kind_passes(browser: Browser, site: Server) -> None:
    assert faults_of(browser, site, "/good") == ""


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/elsewhere", "another host: http://198.51.100.7/pixel.png"),
        ("/inline", "content security policy"),
        ("/missing", "404 for GET"),
        ("/broken", "it broke"),
    ],
)
def test_a_page_fails_its_test(browser: Browser, site: Server, path: str, fault: str) -> None:
    assert fault in faults_of(browser, site, path)


@pytest.mark.skipif(not AXE.exists(), reason=HOW)
def test_what_a_screen_reader_cannot_read_is_found_in_both_themes(browser: Browser, site: Server) -> None:
    page = GuardedPage(browser, site)
    page.open("/good")
    page.check_accessible()
    page.open("/unlabelled")
    assert [text.partition(":")[0] for text in violations(page.page)] == ["image-alt"]
    with pytest.raises(AssertionError, match="image-alt"):
        page.check_accessible()
    page.context.close()


def test_a_page_wider_than_its_window_is_seen(browser: Browser, site: Server) -> None:
    page = GuardedPage(browser, site, size=(360, 800))
    page.open("/good")
    assert page.overflow() == 0
    page.open("/wide")
    assert page.overflow() > 0
    with pytest.raises(AssertionError, match="the page is"):
        page.check_fits()
    page.open("/button")
    page.check_fits()
    page.page.evaluate(CLIP)
    assert page.overflow() == 0
    with pytest.raises(AssertionError, match="is cut off: <button"):
        page.check_fits()
    page.context.close()
