"""The pages that the server renders: they read without a script, link relatively, and show texts of users as texts."""

import re
from html.parser import HTMLParser

import pytest

from penstock.api.admin.response_headers import CONTENT_SECURITY_POLICY
from penstock.api.console.assets import FOLDER, static_files
from penstock.api.console.routes import PAGES
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import FakeControl, MemoryRegistrar

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
VALUES = {"model": "good", "version": "1", "id": "t1", "column": "age"}
PATHS = [path.replace(":path", "").format(**VALUES) for path in PAGES]


class Reader(HTMLParser):
    """Collects addresses, ids and elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.root: dict[str, str | None] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        if tag == "html":
            self.root = dict(attrs)


@pytest.fixture
def stocked(registry_admin: MemoryRegistrar) -> MemoryRegistrar:
    registry_admin.revisions["good"] = 1
    stated = {"version": "1", "digest": "sha256:" + "ab" * 32, "created_by": "x", "state": "READY", "metadata": {}}
    registry_admin.versions["good", "1"] = stated
    return registry_admin


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_whole_html_with_relative_addresses_only(
    client: Client, stocked: MemoryRegistrar, path: str
) -> None:
    answer = client.get(path, BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "no-store"
    page = Reader(answer.text)
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("title") == 1
    assert all(address.startswith(("../", "#")) for address in page.addresses)
    assert page.root["lang"] == "en"
    assert answer.text.count("aria-current") == (2 if "/models/" in path else 1)
    assert page.root["data-base"] == "../" * (path.count("/") - 1)
    assert not {"style", "onclick", "onload"} & page.attributes
    assert page.tags.count("script") == 2


@pytest.mark.parametrize(("path", "view"), [("/console/models", "overview"), ("/console/models/good/try", "try")])
def test_a_page_states_all_modules_that_it_needs(
    client: Client, stocked: MemoryRegistrar, path: str, view: str
) -> None:
    stated = {name.partition("/static/")[2].partition("/")[2] for name in Reader(client.get(path).text).addresses}
    needed = {*static_files().modules_of("app.js"), *static_files().modules_of(f"views/{view}.js")}
    assert ("views.js" in needed) == (view != "overview")
    assert {name for name in stated if name.endswith("js")} == needed | {"theme.js"}


def test_script_and_server_know_the_same_pages() -> None:
    script = (FOLDER / "app.js").read_text()
    found = re.findall(
        r'^  \["(/console/[^"]+)", "(\w+)", \(\) => import\("\./views/(\w+)\.js"\)\]', script, re.MULTILINE
    )
    assert {re.sub(r":(\w+)\*?", r"{\1}", path) for path, _, _ in found} == {
        path.replace(":path", "") for path in PAGES
    }
    for _, name, module in found:
        assert name == module
        assert f"export const {name}View = {{" in (FOLDER / f"views/{module}.js").read_text()
        assert f"views/{module}.js" in static_files().file_of


@pytest.mark.parametrize(
    ("path", "target"),
    [("/", "./console/models"), ("/console", "./console/models"), ("/console/", "../console/models")],
)
def test_the_root_leads_to_the_models_below_any_prefix(client: Client, path: str, target: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, target)


def test_the_base_counts_the_path_as_it_was_sent(client: Client) -> None:
    page = Reader(client.get("/console/models/good/monitor/a%2Fb").text)
    assert page.root["data-base"] == "../../../../"


@pytest.mark.parametrize("column", ["a%0Ab", "a%2Fb%3Fc%2523", "%3Cimg%3E%22'%0A"])
def test_any_name_of_a_column_has_a_page(client: Client, stocked: MemoryRegistrar, column: str) -> None:
    answer = client.get(f"/console/models/good/monitor/{column}", BROWSER)
    assert (answer.status_code, "<img>" in answer.text) == (200, False)


def test_the_overview_shows_what_is_served_and_escapes_it(client: Client) -> None:
    text = client.get("/console/models").text
    for part in ("1.2.3", "good", "READY", "&lt;bad&gt;", "no &lt;version&gt;", "/metrics", "127.0.0.1:2"):
        assert part in text
    assert "<bad>" not in text
    assert "http://" not in text


def test_the_overview_shows_who_answers_and_what_goes_on(client: Client) -> None:
    text = client.get("/console/models").text
    for part in ("1 95.5 %, 2 4.5 %", "2 columns", "2 READY", "rollout to 2", "drift.detected.v1", "nobody answers"):
        assert part in text
    assert 'href="../console/models/good/rollouts/t%3C1%3E"' in text


def test_the_fleet_shows_gateways_workers_and_tasks(client: Client, control: FakeControl) -> None:
    text = client.get("/console/fleet").text
    for part in ("4711", "7 of 100 bytes", "digits (1)", "it is &lt;overdue&gt;", "Workers: 2 of 2 ready"):
        assert part in text
    control.ready = False
    assert "1 of 2 &lt;workers&gt; are ready" in client.get("/console/models").text


def test_access_shows_who_asks_and_the_keys(client: Client) -> None:
    text = client.get("/console/access").text
    assert "anonymous" in text and "admin for *" in text and "bot" in text


def test_an_error_is_a_page_for_a_browser_and_json_for_a_program(client: Client) -> None:
    page = client.get("/console/static/0/x.js", BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "load the page again" in page.text
    assert Reader(page.text).tags.count("script") == 1  # no view takes the page over
    nowhere = client.get("/console/nowhere", BROWSER)
    assert (nowhere.status_code, Reader(nowhere.text).tags.count("nav")) == (404, 1)
    unknown = client.get("/console/models/none/traffic", BROWSER)
    assert (unknown.status_code, Reader(unknown.text).tags.count("nav")) == (404, 1)  # a model that is not has no tabs
    assert client.get("/console/nowhere").json()["error"].startswith("the console has no page at this address")
    program = client.get("/console/static/0/x.js")
    assert program.json()["error"].startswith("this release of the console has no such file")
