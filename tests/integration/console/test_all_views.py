"""Every view of the console: no fault of the browser, no barrier, no request while nothing happens but the stream, no
overflow on a phone, and a page without script."""

from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import GOOD, SAME, TURNED, ask_many, begin, models, set_route
from tests.integration.traffic.test_retraining import give_reference

pytestmark = needs_chromium

LOADED = "!document.querySelector('[data-loading]')"
WINDOW, PHONE = (1280, 900), (360, 780)
STREAM = "/admin/v1/stream?"
IDLE_MS, LOOK_MS, ANSWER_MS = 35_000, 5_000, 50
"""How far the timers of a page run: over more than two intervals of anything that would ask again and again, and not as
far as the silence after which a page opens its stream anew. In steps, each with so much real time for answers."""


class Content:
    """A gateway with something to show in every view, and the path of each."""

    def __init__(self, server: Server, rollout: str, experiment: str, column: str) -> None:
        self.server = server
        model = "/console/models/m"
        self.paths = {
            "overview": "/console/models",
            "model": model,
            "version": f"{model}/versions/{GOOD}",
            "compare": f"{model}/compare?a={GOOD}&b={SAME}",
            "traffic": f"{model}/traffic",
            "rollouts": f"{model}/rollouts",
            "rollout": f"{model}/rollouts/{rollout}",
            "experiment": f"{model}/experiments/{experiment}",
            "shadow": f"{model}/shadow/{TURNED}",
            "monitor": f"{model}/monitor",
            "column": f"{model}/monitor/{quote(column, safe='')}",
            "retraining": f"{model}/retraining",
            "try": f"{model}/try",
            "fleet": "/console/fleet",
            "timeline": "/console/timeline",
            "access": "/console/access",
        }


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Content]:
    workspace = tmp_path_factory.mktemp("views")
    with harness.running(models(workspace / "models"), workspace) as server:
        give_reference(server)
        rollout = begin(server, to=SAME)
        ask_many(server, 60)
        server.admin("POST", f"/admin/v1/models/m/rollouts/{rollout['id']}/abort", {"reason": "seen enough"})
        arms = {"arms": {GOOD: 5000, SAME: 5000}, "reason": "which one is better"}
        experiment = server.admin("POST", "/admin/v1/models/m/experiments", arms)
        stated = experiment.json().get("id", "") if experiment.status == 201 else ""
        if stated:
            server.admin("POST", f"/admin/v1/models/m/experiments/{stated}/stop", {"reason": "over"})
        set_route(server, split={GOOD: 9000, SAME: 1000}, shadow=[{"version": TURNED, "percent": 100}])
        ask_many(server, 60)
        yield Content(server, rollout["id"], stated, _a_column(server))


def _a_column(server: Server) -> str:
    """The name of a column that is monitored, once rows of it were counted."""
    names: list[str] = []

    def is_there() -> bool:
        monitor = server.admin("GET", "/admin/v1/models/m/monitor").json()
        names.extend(item["name"] for item in [*monitor.get("features", ()), *monitor.get("outputs", ())])
        return bool(names)

    wait_until(is_there, PATIENCE_S, "a column")
    return names[0]


VIEWS = list(Content(Server.__new__(Server), "", "", "").paths)


@pytest.fixture(scope="module")
def tab(content: Content, open_tab: OpenPage) -> GuardedPage:
    """A tab whose timers run as tests say."""
    page = open_tab(content.server)
    page.page.clock.install()
    return page


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_no_barrier_and_no_fault_asks_nothing_again_and_fits_a_phone(
    content: Content, tab: GuardedPage, view: str
) -> None:
    page = tab
    page.page.set_viewport_size({"width": WINDOW[0], "height": WINDOW[1]})
    page.open(content.paths[view])
    page.wait_for(LOADED, f"the view {view}")
    assert page.page.locator("h1").count() == 1
    page.check_accessible(view)
    assert requests_while_idle(page) == []
    page.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page.check_fits(view)
    page.check()


def requests_while_idle(page: GuardedPage) -> list[str]:
    """What a page asks for again beside its stream, while its timers run on and nothing happens."""
    before = len(page.requests)
    for _ in range(IDLE_MS // LOOK_MS):  # in parts, because some timers begin when an answer has come
        page.page.clock.run_for(LOOK_MS)
        page.page.wait_for_timeout(ANSWER_MS)
    asked = Counter(url for url in page.requests[before:] if STREAM not in url)
    return [url for url, times in asked.items() if times > 1]


FORMS = {"model": "New alias", "rollouts": "New rollout", "traffic": "Add a rule", "monitor": "Change the policy"}


@pytest.mark.parametrize("view", FORMS)
def test_a_form_fits_a_phone(content: Content, tab: GuardedPage, view: str) -> None:
    tab.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    tab.open(content.paths[view])
    tab.page.get_by_role("button", name=FORMS[view]).click()
    tab.page.locator("#app input:visible, dialog input:visible").first.wait_for()
    tab.check_fits(FORMS[view])
    tab.check()


def test_every_view_reads_without_script(content: Content, browser: Browser) -> None:
    page = GuardedPage(browser, content.server, script=False)
    for view, path in content.paths.items():
        page.open(path)
        assert page.page.locator("h1").count() == 1, view
        assert len(page.page.inner_text("main")) > 20, view
    assert not page.faults
    page.context.close()
