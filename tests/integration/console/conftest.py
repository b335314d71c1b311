"""A browser and a gateway with traffic, for the tests of the console."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests import harness
from tests.browser import GuardedPage, OpenPage, running_browser
from tests.harness import Server
from tests.integration.traffic.drive import GOOD, ask_many, models, promote_champion


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file: while it runs, no test may call ``asyncio.run``."""
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway that serves model ``m`` with five versions, has a champion, and has answered some requests."""
    workspace = tmp_path_factory.mktemp("console")
    with harness.running(models(workspace / "models"), workspace) as running:
        promote_champion(running, GOOD)
        ask_many(running, 40)
        yield running


@pytest.fixture(scope="module")
def open_tab(browser: Browser) -> Iterator[OpenPage]:
    """Opens a tab for all tests of a file that only look: another page in it takes a quarter of the time of a new tab.

    Each test calls ``check`` at its end: when the tab is closed, its gateway may have ended.
    """
    tabs: list[GuardedPage] = []

    def open_one(server: Server, **options: Any) -> GuardedPage:
        tabs.append(GuardedPage(browser, server, **options))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.context.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages that fail the test at its end if they did what no page may do."""
    pages: list[GuardedPage] = []

    def open_one(server: Server, **options: Any) -> GuardedPage:
        pages.append(GuardedPage(browser, server, **options))
        return pages[-1]

    yield open_one
    for page in pages:
        page.close()
