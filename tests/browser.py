"""A real browser for tests of the console: Debian's Chromium, and pages that fail their test on what no page may do.

A page of the console asks no other host for anything, runs no inline script, and logs no error; it is usable by
keyboard and by screen readers. ``GuardedPage.close`` fails on the first three, ``check_accessible`` on what axe finds.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)
from playwright.sync_api import Error as PlaywrightError

from tests.budgets import THOROUGH
from tests.harness import PATIENCE_S, Server

WHOLE, SHELL = Path("/usr/bin/chromium"), Path("/usr/bin/chromium-headless-shell")
CHROMIUM = SHELL if SHELL.exists() and not THOROUGH else WHOLE
"""The browser without windows, in which a new page takes a quarter of the processor time; nightly the whole one."""

AXE = Path(__file__).parent / "clients" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
HOW = "npm ci --ignore-scripts --prefix tests/clients/axe"

ARGUMENTS = [
    "--no-sandbox",  # tests run as root in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",  # nothing leaves this machine
]

LOOK_MS = 50

COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules of axe whose answer differs between themes, which differ in colours alone."""

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

expect.set_options(timeout=PATIENCE_S * 1000)
"""What the stream may replace at any time must be read by expectations, which look again until they hold."""

_DISCONNECTED = re.compile(r"net::ERR_(CONNECTION|INCOMPLETE_CHUNKED|EMPTY_RESPONSE|NETWORK|ABORTED)")
_STATUS = re.compile(r"responded with a status of (\d{3})")

_WATCH = """
addEventListener("securitypolicyviolation", event => {
    window.__violations = [...(window.__violations ?? []), `${event.violatedDirective}: ${event.blockedURI}`];
});
"""

_BEYOND = """() => {
    const found = [], name = item => item.outerHTML.slice(0, 160);
    const { scrollWidth } = document.scrollingElement;
    if (scrollWidth > innerWidth) found.push(`the page is ${scrollWidth} pixels wide`);
    for (const item of document.querySelectorAll("body *:not(pre)"))
        if (/auto|scroll/.test(getComputedStyle(item).overflowX) && item.scrollWidth > item.clientWidth + 1)
            found.push(`has to be scrolled sideways: ${name(item)}`);
    for (const item of document.querySelectorAll("a, button, input, select, textarea, summary")) {
        const box = item.getBoundingClientRect();
        if (!box.width || item.closest(".hidden, .skip, pre")) continue;
        let [left, right] = [0, innerWidth];
        for (let above = item.parentElement; above; above = above.parentElement) {
            if (getComputedStyle(above).overflowX === "visible") continue;
            const clip = above.getBoundingClientRect();
            [left, right] = [Math.max(left, clip.left), Math.min(right, clip.right)];
        }
        const isCut = item.tagName === "BUTTON" && item.scrollWidth > item.clientWidth + 1;
        if (isCut || box.left < left - 1 || box.right > right + 1) found.push(`is cut off: ${name(item)}`);
    }
    return found.slice(0, 8);
}"""
"""What a window hides at its sides; long lines of code may be scrolled."""

needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed: apt-get install chromium")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser for the time of a block. No test may call ``asyncio.run`` meanwhile: Playwright runs a loop itself."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class GuardedPage:
    """A tab of the console on one gateway, in a browser profile of its own.

    ``faults`` collects what no page may do. Statuses of errors that a test causes must be announced by ``expect``,
    lost connections by ``expect_disconnects``.
    """

    def __init__(
        self,
        browser: Browser,
        server: Server,
        theme: Theme = "light",
        size: tuple[int, int] = (1280, 900),
        script: bool = True,
        prefix: str = "",
    ) -> None:
        self.base = f"http://{server.ops}{prefix}"
        self._host = urlsplit(self.base).netloc
        self.faults: list[str] = []
        self.requests: list[str] = []
        self._statuses: set[int] = set()
        self._disconnects = False
        self.context: BrowserContext = browser.new_context(
            color_scheme=theme,
            viewport={"width": size[0], "height": size[1]},
            java_script_enabled=script,
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.context.add_init_script(_WATCH)
        self.page: Page = self.context.new_page()
        self._watch(self.page)

    def _watch(self, page: Page) -> None:
        page.on("request", self._note_request)
        page.on("response", self._note_response)
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.faults.append(f"an exception: {error}"))

    def _note_request(self, request: Request) -> None:
        self.requests.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != self._host:
            self.faults.append(f"a request to another host: {request.url}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._statuses:
            self.faults.append(f"{response.status} for {response.request.method} {response.url}")

    def _note_console(self, message: ConsoleMessage) -> None:
        text = message.text
        if message.type not in ("error", "warning") or _STATUS.search(text):
            return  # statuses are noted with their response
        if not (self._disconnects and _DISCONNECTED.search(text)):
            self.faults.append(f"the browser's console: {text}")

    def expect(self, *statuses: int) -> None:
        """Let answers with these statuses pass from now on."""
        self._statuses |= set(statuses)

    def expect_disconnects(self) -> None:
        """Let lost connections pass from now on, and what a proxy or a starting gateway answers."""
        self._disconnects = True
        self.expect(502, 503)

    def open(self, path: str) -> Page:
        """Open a path of the ops port, such as ``/console/models``."""
        self.page.goto(f"{self.base}{path}")
        return self.page

    def wait_for(self, expression: str, what: str) -> None:
        """Wait until an expression of JavaScript is true on the page."""
        # Playwright's own wait evaluates in the page, which its content security policy forbids.
        self.wait_until(lambda: bool(self._evaluate(expression)), what)

    def _evaluate(self, expression: str) -> object:
        """Return the value of an expression, None while the page is being replaced by another one."""
        try:
            return self.page.evaluate(expression)
        except PlaywrightError:
            return None

    def wait_until(self, check: Callable[[], bool], what: str) -> None:
        """Wait until something outside the page is true; requests and faults of the page are noted meanwhile."""
        for _ in range(int(PATIENCE_S * 1000 / LOOK_MS)):
            if check():
                return
            self.page.wait_for_timeout(LOOK_MS)
        raise AssertionError(f"never: {what}\n{self._evaluate('document.body.innerText')}\n{self.faults}")

    def wait_for_text(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.wait_for(f"document.body.innerText.includes({json.dumps(text)})", f"the text {text!r}")

    def check_accessible(self, what: str = "") -> None:
        """Check the page by axe in the light theme, and its colours in the dark one too; all in both nightly."""
        for theme in THEMES:
            self.page.emulate_media(color_scheme=theme)
            found = violations(self.page, only_colours=theme != THEMES[0] and not THOROUGH)
            assert not found, f"{what or self.page.url}, {theme}:\n" + "\n".join(found)

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    def check_fits(self, what: str = "") -> None:
        """Check in both themes that nothing has to be scrolled sideways, and that no control is cut off."""
        for theme in THEMES:
            self.page.emulate_media(color_scheme=theme)
            found = self.page.evaluate(_BEYOND)
            assert not found, f"{what or self.page.url}, {theme}:\n" + "\n".join(found)

    def check(self) -> None:
        """Fail if the page did what no page may do."""
        blocked = self.page.evaluate("window.__violations ?? []")
        assert not blocked, f"against the content security policy: {blocked}"
        assert not self.faults, self.faults

    def close(self) -> None:
        """Check the page, and close it."""
        try:
            if not self.page.is_closed():
                self.check()
        finally:
            self.context.close()


def violations(page: Page, only_colours: bool = False) -> list[str]:
    """Return what axe finds on a page; skips the test where axe is not installed."""
    if not AXE.exists():
        pytest.skip(f"axe-core is not installed: {HOW}")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    only = {"type": "rule", "values": COLOURS} if only_colours else {"type": "tag", "values": RULES}
    result: Mapping[str, Any] = page.evaluate(
        "only => axe.run(document, {runOnly: only, resultTypes: ['violations']})", only
    )
    return [
        f"{item['id']}: {item['help']}: {node['html'][:200]} ({node.get('failureSummary', '')[:300]})"
        for item in result["violations"]
        for node in item["nodes"]
    ]


OpenPage = Callable[..., GuardedPage]
"""Opens a page: ``open_page(server, theme=…, size=…)``; the test fails at its end if the page did what it may not."""
