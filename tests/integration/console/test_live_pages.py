"""Open pages of the console while something happens: changes appear, connections are lost, people meet."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server
from tests.integration.traffic.drive import GOOD, SAME, models, promote_champion, set_route
from tests.ports import free_port
from tests.relay import Relay

pytestmark = needs_chromium

TRAFFIC = "/console/models/m/traffic"
STREAM = "/admin/v1/stream?"
HIDDEN_MS = 6000
STEP_MS, MOST_MS = 20, 3000
"""How far the timers of a page run at each look, and at most: far enough to draw what has come, and to ask for nothing
now and then."""

HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""What a browser does when its tab is covered by another one, or shown again."""

LIVE = "[...document.querySelectorAll('[role=status]')].some(mark => mark.textContent === 'live')"
STALE = "[...document.querySelectorAll('[role=status]')].some(mark => mark.textContent.startsWith('stale since'))"


@pytest.fixture(autouse=True)
def route(gateway: Server) -> None:
    set_route(gateway, split={GOOD: 9000, SAME: 1000}, reason="the start of a test")


def revision(server: Server) -> int:
    return int(server.admin("GET", "/admin/v1/models/m/route").json()["revision"])


def wait_revision(page: GuardedPage, server: Server) -> None:
    page.wait_for_text(f"Revision {revision(server)}.")


def open_traffic(page: GuardedPage) -> None:
    page.open(TRAFFIC)
    page.wait_for("!document.querySelector('[data-loading]')", "the view")
    page.wait_for(LIVE, "a live page")


def test_what_somebody_else_changes_appears_by_itself(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    open_traffic(page)
    set_route(gateway, split={GOOD: 4000, SAME: 6000})
    wait_revision(page, gateway)
    assert len([url for url in page.requests if url.endswith(TRAFFIC)]) == 1  # it was not loaded again


def test_a_cut_stream_goes_on_where_it_was(gateway: Server, browser: Browser) -> None:
    relay = Relay(int(gateway.ops.rpartition(":")[2]))
    page = GuardedPage(browser, Server(gateway.process, gateway.log, ops=f"127.0.0.1:{relay.port}"))
    ids: list[str] = []
    page.page.on("request", lambda request: ids.append(request.all_headers().get("last-event-id", "")))
    try:
        page.expect_disconnects()
        open_traffic(page)
        relay.cut()
        set_route(gateway, split={GOOD: 3000, SAME: 7000})
        page.wait_for(LIVE, "a live page again")
        wait_revision(page, gateway)
        page.close()
    finally:
        relay.close()


def test_a_page_outlives_a_restart_of_its_gateway(browser: Browser, tmp_path: Path) -> None:
    folder, options = models(tmp_path / "models"), ("--ops-port", str(free_port()))
    with harness.running(folder, tmp_path, *options) as first:
        promote_champion(first, GOOD)
        set_route(first, split={GOOD: 9000, SAME: 1000})
        page = GuardedPage(browser, first)
        page.expect_disconnects()
        open_traffic(page)
    page.wait_for(STALE, "that it is stale")
    with harness.running(folder, tmp_path, *options) as second:
        page.wait_for(LIVE, "a live page again")
        set_route(second, split={GOOD: 2000, SAME: 8000})
        wait_revision(page, second)
        page.close()


def test_a_hidden_tab_closes_its_stream_and_is_live_again_when_it_is_shown(
    gateway: Server, open_page: OpenPage
) -> None:
    page = open_page(gateway)
    page.page.clock.install()
    open_traffic(page)
    page.page.evaluate(HIDE, True)
    page.page.clock.run_for(HIDDEN_MS)
    page.wait_for_text("paused since")
    streams = [url for url in page.requests if STREAM in url]
    set_route(gateway, split={GOOD: 1000, SAME: 9000})
    page.page.clock.run_for(HIDDEN_MS)
    assert [url for url in page.requests if STREAM in url] == streams  # a hidden page asks for nothing
    page.page.evaluate(HIDE, False)
    wait_revision(page, gateway)
    page.wait_for(LIVE, "a live page again")


def test_a_change_comes_to_the_timeline_by_the_stream(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    page.page.clock.install()
    page.open("/console/timeline?model=m")
    page.wait_for(LIVE, "a live page")
    page.page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=5))
    set_route(gateway, split={GOOD: 5000, SAME: 5000}, reason="half and half")

    looks = iter(range(MOST_MS // STEP_MS))

    def is_shown() -> bool:
        if next(looks, None) is not None:
            page.page.clock.run_for(STEP_MS)
        return "half and half" in page.page.inner_text("#app")

    page.wait_until(is_shown, "the change")
