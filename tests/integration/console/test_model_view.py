"""The pages of a model and of its versions in a browser: pushes, aliases, gates, comparisons, and who may do what."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Route, expect

from tests import harness, zoo
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server

pytestmark = needs_chromium

MODEL = "/console/models/digits"
HOSTILE = '"><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
METADATA: Mapping[str, Mapping[str, Any]] = {
    "1": {"metrics": {"accuracy": 0.91}, "parameters": {"depth": 4}},
    "2": {"metrics": {"accuracy": 0.95}, "parent": "1", "card": {"summary": HOSTILE, "owners": ["ann"]}},
    "3": {"parent": "2", "source": HOSTILE},
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway of a registry with one model of three versions."""
    with harness.running(None, tmp_path_factory.mktemp("registry"), "--workers", "1") as server:
        for version, metadata in METADATA.items():
            stated = {"penstock-metadata": json.dumps(metadata)}
            content = zoo.versioned(int(version)).SerializeToString()
            assert server.push("digits", version, content, stated).status == 201
        for version in ("1", "2"):
            move_alias(server, version)
        yield server


def move_alias(server: Server, version: str) -> None:
    move = {"version": version, "reason": "in a test"}
    assert server.as_owner("PUT", "/admin/v1/models/digits/aliases/champion", move).status == 200


def opened(open_page: OpenPage, server: Server, path: str = "", **options: Any) -> tuple[GuardedPage, Locator]:
    """A page of the model, and what its view shows, once it has its data."""
    page = open_page(server, **options)
    page.open(f"{MODEL}{path}")
    page.wait_for("document.querySelector('#app h2') && !document.querySelector('[data-loading]')", "the view")
    return page, page.page.locator("#app")


def champion(server: Server) -> str:
    return str(server.admin("GET", "/admin/v1/models/digits").json()["aliases"]["champion"])


def fill_reason(page: GuardedPage, action: str) -> None:
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("it is better")
    dialog.get_by_role("button", name=action, exact=True).click()


@pytest.mark.parametrize("path", ["", "/versions/2", "/versions/3", "/compare?a=1&b=2"])
def test_pages_are_accessible_and_fit_a_small_window(open_page: OpenPage, registry: Server, path: str) -> None:
    page, app = opened(open_page, registry, path, size=(360, 800))
    assert page.overflow() == 0
    page.check_accessible(path)
    assert page.page.evaluate("window.hacked") is None
    assert app.locator("script, img").count() == 0


def test_a_version_shows_its_report_card_lineage_and_gates(open_page: OpenPage, registry: Server) -> None:
    page, app = opened(open_page, registry, "/versions/2")
    page.wait_for_text("The policy asks for none.")
    for shown in ("its graph proves that rows are independent", "admitted", HOSTILE, "accuracy 0.95", "[rows, 3]"):
        expect(app).to_contain_text(shown, use_inner_text=True)
    expect(app.get_by_role("link", name="Compare with 1")).to_have_count(1)
    app.get_by_role("link", name="3", exact=True).click()  # the version that came from it
    page.wait_for_text("digits: version 3")


def test_two_versions_stand_side_by_side(open_page: OpenPage, registry: Server) -> None:
    page, app = opened(open_page, registry, "/compare")
    page.wait_for_text("Neither has answered in shadow here.")
    app.get_by_role("combobox", name="Version").select_option("1")
    page.wait_for("new URL(location).searchParams.get('a') === '1'", "the choice in the query")
    app.get_by_role("combobox", name="with").select_option("2")
    page.wait_for_text("+0.04")
    expect(app.get_by_role("table", name="Metadata of both")).to_contain_text("removed")


def test_an_alias_moves_and_rolls_back_with_a_reason(open_page: OpenPage, registry: Server) -> None:
    move_alias(registry, "2")
    page, app = opened(open_page, registry)
    app.get_by_role("button", name="Move champion", exact=True).click()
    page.page.get_by_role("dialog").get_by_label("Version").select_option("3")
    fill_reason(page, "Move")
    page.wait_until(lambda: champion(registry) == "3", "the move")
    app.get_by_role("button", name="Roll back champion").click()
    fill_reason(page, "Roll back")
    page.wait_until(lambda: champion(registry) == "2", "the roll-back")
    entries = registry.admin("GET", "/admin/v1/audit?model=digits").json()["entries"]
    assert [entry["reason"] for entry in entries[-2:]] == ["it is better"] * 2


def test_a_change_by_somebody_else_is_shown_and_not_overwritten(open_page: OpenPage, registry: Server) -> None:
    move_alias(registry, "2")
    page, app = opened(open_page, registry)
    page.expect(409)
    app.get_by_role("button", name="Move champion", exact=True).click()
    page.page.get_by_role("dialog").get_by_label("Version").select_option("3")
    move_alias(registry, "1")
    fill_reason(page, "Move")
    page.wait_for_text("Somebody changed it in between.")
    assert champion(registry) == "1"
    page.page.get_by_role("dialog").get_by_role("button", name="Move on revision").click()
    page.wait_until(lambda: champion(registry) == "3", "the move")


def test_a_push_shows_its_progress_and_the_verdict(open_page: OpenPage, registry: Server, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.onnx", tmp_path / "good.onnx"
    bad.write_bytes(b"no graph")
    good.write_bytes(zoo.versioned(9).SerializeToString())
    page, app = opened(open_page, registry)
    page.expect(422)
    for file in (bad, good):
        app.get_by_label("File to push").set_input_files(file)
        app.get_by_role("textbox", name="Version").wait_for()
        expect(app.get_by_role("alert"), "the verdict on the file before").to_have_count(0)
        app.get_by_role("textbox", name="Version").fill("9")
        app.get_by_label("Metadata").fill('{"metrics": {"accuracy": 0.99}, "source": "Zoë"}')
        app.get_by_label("Reason").fill("a better one")
        app.get_by_role("button", name="Push", exact=True).click()
        page.wait_for_text("admission refuses it" if file == bad else "admitted as version 9")
    pushed = registry.admin("GET", "/admin/v1/models/digits").json()["versions"][-1]
    assert (pushed["version"], pushed["metadata"]["source"]) == ("9", "Zoë")
    app.get_by_role("link", name="9", exact=True).wait_for()


DRAG = """([name, content, kinds]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(content), byte => byte.charCodeAt(0))], name));
    const zone = document.querySelector("#app .drop");
    for (const kind of kinds)
        zone.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
"""What a browser does while a file is dragged over the page and dropped."""


def test_a_file_is_dropped_pushed_cancelled_and_pushed_again(open_page: OpenPage, registry: Server) -> None:
    content = zoo.versioned(10).SerializeToString()
    page, app = opened(open_page, registry)
    page.expect_disconnects()
    zone, held = app.locator(".drop"), list[Route]()

    def drag(*kinds: str) -> None:
        page.page.evaluate(DRAG, ["better.onnx", base64.b64encode(content).decode(), kinds])

    def hold(route: Route) -> None:
        held.append(route)

    drag("dragover")
    expect(zone).to_have_class(re.compile(r"\bover\b"))
    drag("dragleave")
    expect(zone).not_to_have_class(re.compile(r"\bover\b"))
    drag("dragover", "drop")
    expect(zone).not_to_have_class(re.compile(r"\bover\b"))
    expect(zone).to_contain_text("better.onnx")
    assert page.page.evaluate("document.querySelector('#app .drop input').files[0].size") == len(content)
    app.get_by_role("textbox", name="Version").fill("10")
    app.get_by_label("Reason").fill("dropped")
    page.page.route("**/versions/10", hold)
    push = app.get_by_role("button", name="Push", exact=True)
    push.click()
    expect(app.get_by_role("progressbar", name="Push")).to_be_visible()
    expect(push).to_be_disabled()
    app.get_by_role("button", name="Cancel").click()
    expect(app.get_by_role("alert")).to_have_text("The push was cancelled.")
    push.click()
    expect(app.get_by_role("progressbar", name="Push")).to_be_visible()
    page.wait_until(lambda: len(held) == 2, "the second attempt")
    held[1].continue_()
    page.wait_for_text("admitted as version 10")
    app.get_by_role("link", name="10", exact=True).wait_for()
    [pushed] = [item for item in versions(registry) if item["version"] == "10"]
    assert pushed["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


def versions(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.admin("GET", "/admin/v1/models/digits").json()["versions"]
    return found


def test_a_version_retires_for_good(open_page: OpenPage, registry: Server) -> None:
    assert registry.push("digits", "8", zoo.versioned(8).SerializeToString()).status == 201
    page, app = opened(open_page, registry, "/versions/8")
    app.get_by_role("button", name="Retire", exact=True).click()
    fill_reason(page, "Retire")
    page.wait_for_text("RETIRED")
    expect(page.page.get_by_role("dialog")).to_have_count(0)  # the stream may be ahead of the answer that closes it
    expect(app.get_by_role("button", name="Retire", exact=True)).to_have_count(0)


def test_settings_change_with_a_reason(open_page: OpenPage, registry: Server) -> None:
    page, app = opened(open_page, registry)
    app.get_by_role("button", name="Change settings").click()
    page.page.get_by_role("dialog").get_by_label("Seconds").fill("60")
    fill_reason(page, "Change")
    page.wait_for_text("60 s after a version has gone")
