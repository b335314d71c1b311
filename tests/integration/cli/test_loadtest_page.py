"""The page of a load test in a real browser: it draws everything, asks nobody, and is accessible."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from penstock.loadtest.html import to_html
from tests.browser import THEMES, needs_chromium, running_browser, violations
from tests.unit.loadtest.test_reports import CASES

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as started:
        yield started


def test_pages_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=True, reduced_motion="reduce")
    page, faults, requests = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    for name in ("among failures", "compared", "capacity"):
        file = tmp_path / f"{name.replace(' ', '-')}.html"
        file.write_text(to_html(CASES[name][0]))
        page.goto(file.as_uri())
        assert page.evaluate("[...document.querySelectorAll('svg')].every(svg => svg.getBBox().width > 300)")
        assert page.evaluate("document.querySelectorAll('svg path, svg circle').length") >= 3
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            assert violations(page) == []
        page.set_viewport_size({"width": 360, "height": 740})
        page.click("summary")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "only plots and tables scroll"
        heights = "[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height)"
        assert min(page.evaluate(heights)) >= 10, "texts of plots are legible on a telephone"
        assert violations(page) == []
        page.set_viewport_size({"width": 1280, "height": 900})
    context.close()
    assert faults == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
