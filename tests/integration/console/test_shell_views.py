"""The frame of the console, the overview, fleet and access in a real browser: by click, by key, signed in and out."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests import harness, zoo
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server
from tests.keys import ACCEPT_KEYS, create_key, revoke_key

pytestmark = needs_chromium

WATCH_ROWS = """() => {
    window.changed = new Set();
    const note = element => {
        const row = element?.closest("tr[data-row]");
        if (row && !element.closest("time")) window.changed.add(row.querySelector("th").innerText);
    };
    new MutationObserver(found => found.forEach(item => note(item.target.parentElement)))
        .observe(document.querySelector("tbody"), {subtree: true, childList: true, characterData: true});
}"""
"""Collects the names of the rows in which something is rendered; times go on by themselves."""

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A gateway with authentication by keys, and its folder."""
    folder = tmp_path_factory.mktemp("closed")
    zoo.save(zoo.identity("FP32"), folder / "models" / "echo" / "1" / "model.onnx")
    with harness.running(folder / "models", folder, env=ACCEPT_KEYS) as running:
        yield running, folder


def path_of(page: GuardedPage) -> str:
    return page.page.url.removeprefix(page.base)


def sign_in(page: GuardedPage, key: str) -> None:
    page.page.get_by_label("API key or token").fill(key)
    page.page.get_by_role("button", name="Sign in").click()


def test_every_place_is_reached_by_keys_alone(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    page.open("/")
    page.page.get_by_role("link", name="m", exact=True).wait_for()
    keyboard = page.page.keyboard
    for keys, heading in (("gf", "Fleet"), ("ga", "Access"), ("gt", "Timeline"), ("gm", "Models")):
        for key in keys:
            keyboard.press(key)
        page.page.get_by_role("heading", name=heading, level=1).wait_for()
        expect(page.page).to_have_title(f"{heading} · Penstock")
        expect(page.page.locator("nav a[aria-current=page]")).to_have_text(re.compile(f"^{heading}"))
    page.page.get_by_role("link", name="m", exact=True).wait_for()
    keyboard.press("j")
    keyboard.press("Enter")
    page.page.wait_for_url("**/console/models/m")
    page.page.get_by_role("link", name="Fleet").click()  # its address does not hang on that of the page
    page.page.wait_for_url(f"{page.base}/console/fleet")
    page.page.go_back()
    page.page.go_back()
    page.page.wait_for_url("**/console/models")


def test_help_shows_the_keys_and_switches_them_off(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    page.open("/console/access")
    page.page.get_by_role("heading", name="You").wait_for()
    page.page.keyboard.press("?")
    dialog = page.page.get_by_role("dialog", name="Keys")
    dialog.wait_for()
    page.check_accessible("help")
    dialog.get_by_label("Single keys are on").uncheck()
    page.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.page.keyboard.press("?")
    page.page.keyboard.press("g")
    page.page.keyboard.press("m")
    assert path_of(page) == "/console/access"
    assert page.page.get_by_role("dialog").count() == 0
    page.page.reload()
    page.page.get_by_role("button", name="Keys").click()
    expect(page.page.get_by_label("Single keys are on")).not_to_be_checked()


def test_search_finds_a_page_of_a_model(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    page.open("/console/fleet")
    page.page.get_by_role("heading", name="Gateways").wait_for()
    page.page.keyboard.press("/")
    page.page.get_by_label("Model or page").fill("m mon")
    page.check_accessible("search")
    page.page.get_by_role("button", name="m monitor").wait_for()
    page.page.keyboard.press("Enter")
    page.page.wait_for_url("**/console/models/m/monitor")


def test_filters_of_the_overview_are_in_the_address(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    page.open("/console/models")
    page.wait_for_text("1 of 1 models")
    page.page.keyboard.press("/")
    page.page.keyboard.type("nothing like it")
    page.wait_for_text("No model is like this.")
    assert "q=nothing+like+it" in page.page.url
    page.page.get_by_label("Search").fill("")
    page.page.get_by_role("button", name="Requests/s").click()
    page.page.get_by_label("Show").select_option("unready")
    page.wait_for_text("0 of 1 models")
    page.page.reload()
    page.wait_for_text("0 of 1 models")
    expect(page.page.get_by_label("Show")).to_have_value("unready")
    assert "sort=rate" in page.page.url


def test_the_colour_scheme_is_remembered(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway, theme="light")
    page.open("/console/access")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.page.evaluate(background)
    button = page.page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    expect(button).to_have_text("Theme: dark")
    dark = page.page.evaluate(background)
    page.page.reload()
    assert page.page.evaluate(background) == dark != light


def message(topic: str, document: Any) -> str:
    return f"id: 1\nevent: {topic}\ndata: {json.dumps(document)}\n\n"


def row(name: str, versions: int = 20) -> dict[str, Any]:
    """A row of the overview whose split has many versions."""
    split = {str(number + 1): 10_000 // versions for number in range(versions)}
    trial = {"id": "t", "kind": "rollout", "to": "2", "state": "running"}
    event = {"type": "io.penstock.drift.detected.v1", "time": "2026-11-30T10:00:00Z", "subject": "s", "sequence": 1}
    watched = {"drift": {"state": "drift", "columns": 2}, "quality": {"state": "ok", "columns": 0}}
    states = {"READY": versions}
    return {"name": name, "split": split, "versions": versions, "states": states, "reason": "", "trial": trial} | {
        "event": event,
        **watched,
    }


def test_200_models_of_20_versions_are_shown_and_only_what_changes_is_rendered_again(
    gateway: Server, open_page: OpenPage
) -> None:
    models = [row(f"model-{number:03d}") for number in range(199)] + [row(HOSTILE)]
    page = open_page(gateway)

    def stream(route: Route) -> None:
        body = "retry: 200\n\n" + message("overview", {"models": models}) + message("traffic", {"models": traffic})
        route.fulfill(content_type="text/event-stream", body=body)

    traffic: dict[str, Any] = {}
    page.page.route("**/admin/v1/stream*", stream)
    page.open("/console/models")
    page.wait_for_text("200 of 200 models")
    expect(page.page.locator("tr[data-row]")).to_have_count(200)
    page.page.evaluate(WATCH_ROWS)
    number = {"requests_per_second": 12.5, "error_ratio": 0.25, "p50_ms": 1.0, "p99_ms": 4.0}
    traffic["model-007"] = number  # the browser connects again after 200 ms
    page.wait_for_text("12.5")
    assert page.page.evaluate("[...window.changed]") == ["model-007"]
    page.page.get_by_label("Show").select_option("attention")
    page.page.get_by_role("button", name="Errors").click()
    page.page.get_by_role("button", name="Errors").click()
    assert page.overflow() == 0
    page.check_accessible("a large overview")


def test_the_fleet_shows_this_gateway_its_workers_and_tasks(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    page.open("/console/fleet")
    page.page.get_by_role("table", name="Workers").wait_for()
    page.page.get_by_role("table", name="Gateways of this registry").get_by_text("leader").wait_for()
    page.wait_for_text("tasks run.")
    page.page.locator("summary", has_text="All tasks").click()
    page.page.get_by_role("table", name="All tasks").get_by_text("reconciler").wait_for()
    page.check_accessible("fleet")


def test_without_authentication_access_says_what_keys_need(gateway: Server, open_page: OpenPage) -> None:
    page = open_page(gateway)
    page.open("/console/access")
    page.wait_for_text("Keys need a credential")
    expect(page.page.get_by_role("button", name="Create a key")).to_have_count(0)


def test_a_person_signs_in_by_key_administers_keys_and_signs_out(
    closed: tuple[Server, Path], open_page: OpenPage
) -> None:
    server, folder = closed
    key = create_key(folder, "ann", "admin")
    page = open_page(server)
    page.open("/console/access")
    page.page.wait_for_url("**/console/sign-in?next=%2Fconsole%2Faccess")
    page.expect(401)  # who is there? nobody yet
    page.check_accessible("the page for signing in")
    sign_in(page, "pk_wrong")
    page.wait_for_text("This key or token is not valid.")
    page.check_accessible("a refusal")
    sign_in(page, key)
    page.page.wait_for_url("**/console/access")
    page.page.get_by_role("button", name="Create a key").click()
    dialog = page.page.get_by_role("dialog", name="Create a key")
    dialog.get_by_label("Name").fill("bot")
    page.check_accessible("the form for a key")
    dialog.get_by_role("button", name="Create", exact=True).click()
    shown = page.page.get_by_role("dialog", name="The key of bot")
    made = shown.get_by_label("The key", exact=True).inner_text()
    assert server.admin("GET", "/admin/v1/whoami", headers={"authorization": f"Bearer {made}"}).status == 200
    shown.get_by_role("button", name="I have it").click()
    page.page.get_by_role("button", name="Revoke bot").click()
    page.page.get_by_label("Reason").fill("not needed")
    page.page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.page.get_by_role("row", name="bot").get_by_text("revoked").wait_for()
    assert server.admin("GET", "/admin/v1/whoami", headers={"authorization": f"Bearer {made}"}).status == 401
    page.check_accessible("keys")
    page.page.get_by_role("button", name="Sign out").click()
    page.page.wait_for_url("**/console/sign-in")
    page.open("/console/models")
    page.page.wait_for_url("**/console/sign-in")


def test_a_viewer_sees_no_keys_and_the_reason(closed: tuple[Server, Path], open_page: OpenPage) -> None:
    server, folder = closed
    page = open_page(server)
    page.expect(401)
    page.open("/console/access")
    sign_in(page, create_key(folder, "eve", "viewer"))
    page.wait_for_text("You need the permission “administer”")
    expect(page.page.get_by_role("button", name="Create a key")).to_have_count(0)


def test_revocation_leads_an_open_page_to_the_form(closed: tuple[Server, Path], open_page: OpenPage) -> None:
    server, folder = closed
    page = open_page(server)
    page.expect(401)
    page.expect_disconnects()
    page.open("/console/models")
    sign_in(page, create_key(folder, "bob", "viewer"))
    page.page.get_by_role("link", name="echo").wait_for()
    page.wait_for_text("live")
    revoke_key(folder, "bob")
    page.page.wait_for_url("**/console/sign-in?next=*")
