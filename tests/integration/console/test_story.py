"""The work of an operator from start to end, by clicks, and again by keyboard alone."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server
from tests.integration.traffic.drive import GOOD, SAME, scorer, set_route, traffic

pytestmark = needs_chromium

FOCUSED = "document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent ?? ''"
MOST_TABS = 120


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with a registry that has one version."""
    folder = tmp_path_factory.mktemp("story")
    with harness.running(None, folder) as server:
        assert server.push("m", "1", scorer().SerializeToString()).status == 201
        yield server


def loaded(page: GuardedPage, path: str = "") -> None:
    if path:
        page.open(path)
    page.wait_for("!document.querySelector('[data-loading]') && document.querySelector('#app h1')", path or "the view")


def confirm(page: GuardedPage, button: str, reason: str) -> None:
    """Give the reason in the open dialog, and perform."""
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(reason)
    perform = dialog.locator("button.primary, button.danger")
    assert button in perform.inner_text()
    perform.click()
    page.wait_until(lambda: not dialog.count(), "the end of the dialog")


def models_document(server: Server) -> dict[str, object]:
    document: dict[str, object] = server.admin("GET", "/admin/v1/models/m").json()
    return document


def test_the_whole_story_by_clicks(registry: Server, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(registry)
    page.expect_disconnects()
    _push_by_click(page, registry, tmp_path)
    _point_champion(page, registry)
    with traffic(registry, threads=2):
        rollout = _roll_out(page, registry)
        assert rollout["state"] == "promoted"
        page.open("/console/models")
        loaded(page)
        page.wait_for("/[1-9]/.test(document.querySelector('#app').innerText)", "numbers of the traffic")
    assert models_document(registry)["aliases"] == {"champion": "2"}
    history = registry.admin("GET", "/admin/v1/audit?model=m&limit=50").json()["entries"]
    reasons = {entry["reason"] for entry in history}
    assert {"a better one", "the first one answers", "try the second", "look closer", "go on", "it is good"} <= reasons


def _push_by_click(page: GuardedPage, server: Server, folder: Path) -> None:
    loaded(page, "/console/models/m")
    file = folder / "second.onnx"
    file.write_bytes(scorer().SerializeToString())
    section = page.page.locator("section", has=page.page.get_by_role("heading", name=re.compile("[Pp]ush")))
    if not page.page.get_by_label("File to push").count():
        section.get_by_role("button").first.click()
    page.page.get_by_label("File to push").set_input_files(str(file))
    page.page.get_by_label("Version", exact=True).fill("2")
    page.page.get_by_label("Reason").fill("a better one")
    page.page.get_by_role("button", name="Push", exact=True).click()
    page.wait_until(lambda: _state(server, "2") == "READY", "version 2")
    page.wait_for("document.querySelector('#app').innerText.includes('READY')", "the verdict")


def _state(server: Server, version: str) -> str:
    versions = server.admin("GET", "/admin/v1/models/m").json()["versions"]
    return next((str(item["state"]) for item in versions if item["version"] == version), "")


def _point_champion(page: GuardedPage, server: Server) -> None:
    loaded(page, "/console/models/m")
    page.wait_until(
        lambda: page.page.get_by_role("link", name="2", exact=True).count() > 0, "the revision with version 2"
    )
    page.page.get_by_role("button", name="New alias").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Alias").fill("champion")
    dialog.get_by_label("Version").select_option("1")
    confirm(page, "Move", "the first one answers")
    page.wait_until(lambda: models_document(server)["aliases"] == {"champion": "1"}, "the alias")


def _roll_out(page: GuardedPage, server: Server) -> dict[str, object]:
    loaded(page, "/console/models/m/rollouts")
    page.page.get_by_role("button", name="New rollout").click()
    page.page.locator("label", has_text="Roll out").locator("select").select_option("2")
    page.page.get_by_label("Steps in percent; 5! waits for an approval").fill(
        "10! 100"
    )  # waits at the first step, however long the test takes
    page.page.get_by_role(
        "checkbox", name="Latency", exact=True
    ).uncheck()  # a busy machine may make either version the slower one
    page.page.get_by_label("Limit of Errors").fill("5")
    page.wait_for_text("version 2 gets 10 %")  # the preview
    page.page.get_by_role("button", name="Start the rollout").click()
    confirm(page, "Start", "try the second")
    page.wait_until(lambda: "/rollouts/" in page.page.url or bool(_rollouts(server)), "the rollout")
    rollout = _rollouts(server)[0]
    loaded(page, f"/console/models/m/rollouts/{rollout['id']}")
    for button, reason, state in (
        ("Pause", "look closer", "paused"),
        ("Resume", "go on", "running"),
        ("Promote", "it is good", "promoted"),
    ):
        page.page.get_by_role("button", name=re.compile(f"^{button}")).click()
        confirm(page, button, reason)
        page.wait_until(partial(_is_in, server, state), state)
        page.wait_for_text(reason)
    return _rollouts(server)[0]


def _is_in(server: Server, state: str) -> bool:
    return bool(_rollouts(server)[0]["state"] == state)


def _rollouts(server: Server) -> list[dict[str, object]]:
    found: list[dict[str, object]] = server.admin("GET", "/admin/v1/models/m/rollouts").json()["rollouts"]
    return found


def test_the_same_by_keyboard_alone(gateway: Server, open_page: OpenPage) -> None:
    set_route(gateway, split={GOOD: 9000, SAME: 1000})
    page = open_page(gateway)
    keys = page.page.keyboard
    loaded(page, "/console/models")
    keys.press("?")
    page.wait_for_text("Everywhere")
    keys.press("Escape")
    for first, second, title in (("g", "f", "Fleet"), ("g", "a", "Access"), ("g", "m", "Models")):
        keys.press(first)
        keys.press(second)
        page.wait_for(f"document.querySelector('#app h1')?.textContent.includes('{title}')", title)
    loaded(page)
    keys.press("j")
    keys.press("Enter")
    page.wait_until(lambda: page.page.url.endswith("/console/models/m"), "the page of the model")
    loaded(page)
    tab_to(page, "Traffic")
    keys.press("Enter")
    page.wait_until(lambda: page.page.url.endswith("/console/models/m/traffic"), "the page of the traffic")
    loaded(page)
    tab_to(page, f"Points of version {SAME} out of 10,000")
    keys.press("Control+a")
    keys.type("2500")
    keys.press("Tab")
    page.wait_for_text("What this does")
    page.page.evaluate("document.activeElement.blur()")
    keys.press("w")
    page.wait_for("document.activeElement?.name === 'reason'", "the field of the reason")
    keys.type("by keyboard")
    tab_to(page, "Write")
    keys.press("Enter")
    page.wait_until(
        lambda: gateway.admin("GET", "/admin/v1/models/m/route").json()["split"] == {GOOD: 7500, SAME: 2500},
        "the route",
    )


def tab_to(page: GuardedPage, label: str) -> None:
    """Press Tab until the focus is on what has this label or text."""
    for _ in range(MOST_TABS):
        page.page.keyboard.press("Tab")
        if str(page.page.evaluate(FOCUSED)).strip() == label:
            return
    raise AssertionError(f"Tab does not lead to {label!r}")
