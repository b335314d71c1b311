"""Who may do what on the pages of a model: what a role may not do is absent, with the reason."""

import re
from collections.abc import Iterator, Mapping

import pytest
from playwright.sync_api import Locator, expect

from tests import harness, zoo
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server

pytestmark = needs_chromium

MODEL = "/console/models/digits"
ROLES = {"reader": ["viewer"], "ann": ["publisher", "approver"], "bob": ["approver", "operator"]}
ACTIONS = ("New alias", "Change settings", "Move champion", "Push", "Predict")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with authentication; ``ann`` has pushed its model."""
    env = {"PENSTOCK_AUTH__KEYS": "true"}
    with harness.running(None, tmp_path_factory.mktemp("roles"), "--workers", "1", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def keys(server: Server) -> Mapping[str, str]:
    """The key of each person."""
    made = {
        name: str(server.as_owner("POST", "/admin/v1/keys", {"name": name, "roles": roles}).json()["key"])
        for name, roles in ROLES.items()
    }
    headers = {"authorization": f"Bearer {made['ann']}"}
    assert server.push("digits", "1", zoo.versioned(1).SerializeToString(), headers).status == 201
    move = {"version": "1"}
    assert server.as_owner("PUT", "/admin/v1/models/digits/aliases/champion", move).status == 200
    return made


def signed_in(open_page: OpenPage, server: Server, key: str, path: str = "") -> tuple[GuardedPage, Locator]:
    """A page of the model, by somebody who has signed in with a key."""
    page = open_page(server)
    page.expect(401)
    page.open(f"{MODEL}{path}")
    page.page.locator("[name=credential]").fill(key)
    page.page.get_by_role("button", name="Sign in").click()
    app = page.page.locator("#app")
    page.wait_for("document.querySelector('#app h2') && !document.querySelector('[data-loading]')", "the view")
    return page, app


def test_a_reader_sees_everything_and_changes_nothing(
    open_page: OpenPage, server: Server, keys: Mapping[str, str]
) -> None:
    page, app = signed_in(open_page, server, keys["reader"])
    page.wait_for_text("You need the permission “push” for this model.")
    expect(app).to_contain_text("You need the permission “operate” for this model.")
    for name in ACTIONS:
        expect(app.get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(app.get_by_label("File to push")).to_have_count(0)
    page.check_accessible()
    page.open(f"{MODEL}/try")
    page.wait_for_text("You need the permission “predict” for this model.")
    app.get_by_text("Explain a past request").click()
    page.wait_for_text("Explain the request: You need the permission “operate” for this model.")
    for name in ("Predict", "Explain", "Explain the request"):
        expect(app.get_by_role("button", name=name, exact=True)).to_have_count(0)


def test_nobody_approves_what_they_have_pushed(open_page: OpenPage, server: Server, keys: Mapping[str, str]) -> None:
    page, app = signed_in(open_page, server, keys["ann"], "/versions/1")
    page.wait_for_text("You have pushed this version; somebody else approves it.")
    expect(app.get_by_role("button", name="Approve", exact=True)).to_have_count(0)


def test_somebody_else_approves_moves_and_predicts(
    open_page: OpenPage, server: Server, keys: Mapping[str, str]
) -> None:
    page, app = signed_in(open_page, server, keys["bob"], "/versions/1")
    app.get_by_role("button", name="Approve", exact=True).click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("read and tried")
    dialog.get_by_role("button", name="Approve", exact=True).click()
    page.wait_for_text("read and tried")
    expect(app.get_by_role("table", name="Signatures and approvals")).to_contain_text("approval")
    page.open(f"{MODEL}/try")
    app.get_by_role("button", name="Predict", exact=True).click()
    page.wait_for_text("in the worker")
    expect(app.get_by_label("The request by curl")).to_contain_text("PENSTOCK_TOKEN_FILE")
    metrics = server.as_owner("GET", "/metrics").body.decode()
    assert re.search(r'^penstock_requests_total\{[^}]*model="digits"[^}]*\} 1', metrics, re.MULTILINE)
