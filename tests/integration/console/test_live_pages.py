"""Open pages of the console while something happens: changes appear, connections are lost, people meet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server
from tests.integration.traffic.drive import GOOD, SAME, models, promote_champion, set_route
from tests.keys import ACCEPT_KEYS, create_key
from tests.ports import free_port
from tests.relay import Relay

pytestmark = needs_chromium

TRAFFIC = "/console/models/m/traffic"
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


def test_of_two_people_who_change_one_route_the_second_sees_what_the_first_did(
    gateway: Server, open_page: OpenPage
) -> None:
    page = open_page(gateway)
    page.expect(409)
    open_traffic(page)
    box = page.page.get_by_label(f"Points of version {SAME} out of 10,000")
    box.fill("2500")
    box.press("Tab")
    page.wait_for_text("What this does")
    page.page.get_by_role("button", name="Write the route").click()
    page.page.get_by_label("Reason").fill("more of the second")
    gateway.admin(
        "PUT",
        "/admin/v1/models/m/route",
        {"split": {GOOD: 7000, SAME: 3000}, "reason": "bob was quicker"},
        {"penstock-actor": "bob"},
    )
    page.page.get_by_role("button", name="Write", exact=True).click()
    dialog = page.page.get_by_role("dialog")
    page.wait_until(lambda: "Somebody changed it in between" in dialog.inner_text(), "the conflict")
    assert "bob" in dialog.inner_text()
    assert gateway.admin("GET", "/admin/v1/models/m/route").json()["split"] == {GOOD: 7000, SAME: 3000}
    page.page.get_by_role("button", name="Write on revision").click()
    page.wait_until(lambda: not dialog.count(), "the end of the dialog")
    route = gateway.admin("GET", "/admin/v1/models/m/route").json()
    assert route["split"] == {GOOD: 7500, SAME: 2500}
    wait_revision(page, gateway)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A gateway that asks for credentials, and its folder."""
    folder = tmp_path_factory.mktemp("closed")
    with harness.running(models(folder / "models"), folder, env=ACCEPT_KEYS) as server:
        yield server, folder


def test_who_may_only_read_gets_reasons_in_place_of_actions(closed: tuple[Server, Path], open_page: OpenPage) -> None:
    server, folder = closed
    page = open_page(server)
    page.expect(401)  # before it is signed in
    page.open(TRAFFIC)
    page.page.get_by_label("API key or token").fill(create_key(folder, "reader", "viewer"))
    page.page.get_by_role("button", name="Sign in").click()
    page.page.wait_for_url(f"**{TRAFFIC}")
    page.wait_for_text("Change the traffic:")
    assert "operate" in page.page.locator(".denied").first.inner_text()
    assert page.page.get_by_role("button", name="Write the route").count() == 0
    for path in ("/console/models/m", "/console/models/m/rollouts", "/console/access"):
        page.open(path)
        page.wait_for("!document.querySelector('[data-loading]')", path)
        assert page.page.locator("button.primary, button.danger").count() == 0, path


def test_a_revoked_key_ends_the_stream_of_its_page(closed: tuple[Server, Path], open_page: OpenPage) -> None:
    server, folder = closed
    page = open_page(server)
    page.expect(401)
    page.expect_disconnects()
    page.open(TRAFFIC)
    page.page.get_by_label("API key or token").fill(create_key(folder, "leaver", "viewer"))
    page.page.get_by_role("button", name="Sign in").click()
    page.wait_for(LIVE, "a live page")
    assert harness.run_command("keys", "revoke", "leaver", folder=folder).returncode == 0
    page.wait_for(f"!({LIVE})", "the end of the stream")
