"""Texts of users that try to be markup, script or layout: every view shows them as text, and stays in its place."""

import json
from collections.abc import Iterator

import pytest

from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server
from tests.integration.traffic.drive import scorer

pytestmark = needs_chromium

MARKUP = (
    "<img src=x onerror='window.hit=1'><script>window.hit=1</script><b>bold</b> \"' &lt; ${window.hit=1} "
    "javascript:window.hit=1"
)
LONG = "w" * 400
TEXT = f"{MARKUP} {LONG}"
VIEWS = (
    "/console/models",
    "/console/models/m",
    "/console/models/m/versions/1",
    "/console/models/m/compare?a=1&b=2",
    "/console/models/m/traffic",
    "/console/models/m/rollouts",
    "/console/timeline",
    "/console/models?q=%3Cscript%3Ewindow.hit%3D1%3C/script%3E",
)
HIT = (
    "window.hit === 1 || [...document.querySelectorAll('img, b, script:not([src])')].some(item => item.closest('main'))"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    with harness.running(None, folder) as server:
        card = {"card": {"summary": TEXT, "training_data": TEXT}}
        for version in ("1", "2"):
            headers = {"penstock-metadata": json.dumps(card), "penstock-reason": "%3Cb%3Epushed%3C/b%3E"}
            pushed = server.push("m", version, scorer().SerializeToString(), headers)
            assert pushed.status == 201, pushed
        alias = {"version": "1", "reason": TEXT}
        assert server.admin("PUT", "/admin/v1/models/m/aliases/champion", alias).status == 200
        rules = [{"header": "x-canary", "equals": MARKUP, "version": "2"}]
        route = {"split": {"1": 9000, "2": 1000}, "rules": rules, "reason": TEXT}
        changed = server.admin("PUT", "/admin/v1/models/m/route", route, {"penstock-actor": "%3Cscript%3Emallory"})
        assert changed.status == 200, changed
        yield server


@pytest.fixture(scope="module")
def tab(server: Server, open_tab: OpenPage) -> GuardedPage:
    return open_tab(server)


@pytest.mark.parametrize("path", VIEWS)
def test_a_hostile_text_stays_text_and_in_its_place(tab: GuardedPage, path: str) -> None:
    for size in ((1280, 900), (360, 780)):
        tab.page.set_viewport_size({"width": size[0], "height": size[1]})
        tab.open(path)
        tab.wait_for("!document.querySelector('[data-loading]')", path)
        assert not tab.page.evaluate(HIT)
        assert tab.overflow() == 0, (path, size)
        tab.check()


def test_the_texts_are_shown_as_they_are(server: Server, open_page: OpenPage) -> None:
    page = open_page(server)
    page.open("/console/models/m/versions/1")
    page.wait_for_text("<script>window.hit=1</script><b>bold</b>")
    page.open("/console/models/m/traffic")
    page.wait_until(
        lambda: any(box.input_value() == MARKUP for box in page.page.locator("input[type=text]").all()), "the rule"
    )
