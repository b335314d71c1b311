"""The views of traffic, rollouts, experiments and shadows in a browser: by mouse, by keyboard, and at the same time as
somebody else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from loadtests.access import ask_owner
from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import PATIENCE_S, Server
from tests.integration.traffic.drive import (
    GOOD,
    SAME,
    TURNED,
    ask_many,
    begin,
    models,
    promote_champion,
    set_route,
    traffic,
)
from tests.keys import ACCEPT_KEYS, create_key

pytestmark = needs_chromium

ADMIN = "/admin/v1/models/m"
MODEL = "/console/models/m"
HOSTILE = "<img src=x onerror=alert(1)> & because"
MS = PATIENCE_S * 1000


@pytest.fixture
def server(gateway: Server) -> Server:
    """The gateway with nothing under way, no route, and the good version as the champion."""
    for kind, verb in (("rollouts", "abort"), ("experiments", "stop")):
        for trial in gateway.admin("GET", f"{ADMIN}/{kind}").json()[kind]:
            if trial["state"] in ("running", "paused"):
                assert gateway.admin("POST", f"{ADMIN}/{kind}/{trial['id']}/{verb}", {"reason": "over"}).status == 200
    assert gateway.admin("DELETE", f"{ADMIN}/route", {"reason": "fresh"}).status == 200
    promote_champion(gateway, GOOD)
    return gateway


def app_of(page: GuardedPage) -> Locator:
    """What the script shows."""
    return page.page.locator("#app")


def show(open_page: OpenPage, server: Server, path: str, **options: Any) -> tuple[GuardedPage, Locator]:
    """Open a view, and wait until the script shows it."""
    page = open_page(server, **options)
    page.open(f"{MODEL}/{path}")
    app = app_of(page)
    expect(app.get_by_role("heading", level=2).first).to_be_visible(timeout=MS)
    return page, app


def give_reason(page: GuardedPage, reason: str, button: str) -> Locator:
    """Fill the dialog, and press its button."""
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=button, exact=True).click()
    return dialog


def change(page: GuardedPage, reason: str, button: str) -> None:
    """Give a reason, and wait until the change is made."""
    expect(give_reason(page, reason, button)).to_be_hidden(timeout=MS)


def route_of(server: Server) -> dict[str, Any]:
    route: dict[str, Any] = server.admin("GET", f"{ADMIN}/route").json()
    return route


def test_the_split_is_moved_and_written_by_keyboard_alone(open_page: OpenPage, server: Server) -> None:
    page, app = show(open_page, server, "traffic")
    app.get_by_label("Add a version").select_option(SAME)
    slider = app.get_by_label(f"Weight of version {SAME}", exact=True)
    slider.focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "0.03 %")
    box = app.get_by_label(f"Points of version {SAME} out of 10,000")
    box.fill("2.5 %")
    box.press("Enter")
    expect(app.get_by_label(f"Weight of version {GOOD}", exact=True)).to_have_value("9750")
    expect(app.get_by_text(f"version {GOOD} answers 97.5 %, version {SAME} answers 2.5 %")).to_be_visible()
    box.fill("all of it")
    box.press("Tab")
    expect(box).to_have_attribute("aria-invalid", "true")
    box.press("Escape")
    box.blur()
    page.page.keyboard.press("w")
    dialog = page.page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.page.keyboard.type(HOSTILE)
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert route_of(server)["split"] == {GOOD: 9750, SAME: 250}
    expect(app.get_by_text("Nothing is changed yet.")).to_be_visible()
    entries = server.admin("GET", "/admin/v1/audit?model=m").json()["entries"]
    assert entries[-1]["reason"] == HOSTILE


def test_locks_hold_and_the_others_share_the_rest(open_page: OpenPage, server: Server) -> None:
    set_route(server, split={GOOD: 5000, SAME: 3000, "3": 2000})
    _, app = show(open_page, server, "traffic")
    app.get_by_role("button", name=f"Lock version {SAME}").click()
    slider = app.get_by_label(f"Weight of version {GOOD}", exact=True)
    expect(slider).to_have_attribute("max", "7000")
    expect(app.get_by_label(f"Weight of version {SAME}", exact=True)).to_be_disabled()
    slider.focus()
    slider.press("End")
    expect(app.get_by_label("Weight of version 3", exact=True)).to_have_value("0")
    app.get_by_role("button", name="Distribute evenly").click()
    expect(slider).to_have_value("3500")
    app.get_by_role("button", name=f"Lock version {SAME}").click()
    app.get_by_role("button", name="Remove version 3 from the split").click()
    expect(app.get_by_label("Weight of version 3", exact=True)).to_have_count(0)


def test_two_people_change_one_route(open_page: OpenPage, server: Server) -> None:
    set_route(server, split={GOOD: 9000, SAME: 1000})
    page, app = show(open_page, server, "traffic")
    box = app.get_by_label(f"Points of version {SAME} out of 10,000")
    box.fill("2000")
    box.press("Enter")
    app.get_by_role("button", name="Write the route").click()
    meanwhile = {"split": {GOOD: 5000, SAME: 5000}, "reason": HOSTILE}
    assert server.admin("PUT", f"{ADMIN}/route", meanwhile, {"penstock-actor": "bob"}).status == 200
    page.expect(409)
    dialog = give_reason(page, "mine", "Write")
    expect(dialog.get_by_text("bob")).to_be_visible(timeout=MS)
    conflict = dialog.get_by_role("region", name="Both sides of the conflict")
    expect(conflict.get_by_role("row", name=f"Version {SAME}")).to_contain_text("10 %50 %20 %")
    expect(dialog.get_by_text(HOSTILE)).to_be_visible()
    assert route_of(server)["split"] == {GOOD: 5000, SAME: 5000}
    dialog.get_by_role("button", name="Write on revision").click()
    expect(dialog).to_be_hidden()
    assert route_of(server)["split"] == {GOOD: 8000, SAME: 2000}


def test_a_change_by_somebody_else_shows_while_one_edits(open_page: OpenPage, server: Server) -> None:
    set_route(server, split={GOOD: 9000, SAME: 1000})
    _, app = show(open_page, server, "traffic")
    box = app.get_by_label(f"Points of version {SAME} out of 10,000")
    box.fill("2000")
    box.press("Enter")
    set_route(server, split={GOOD: 5000, SAME: 5000}, reason="theirs")
    expect(app.get_by_text("Somebody changed it in between.")).to_be_visible(timeout=MS)
    expect(app.get_by_text("theirs")).to_be_visible()
    app.get_by_role("button", name="Take what is there now").click()
    expect(box).to_have_value("5000")
    expect(app.get_by_text("Nothing is changed yet.")).to_be_visible()


def test_rules_sticky_and_shadows_are_written(open_page: OpenPage, server: Server) -> None:
    page, app = show(open_page, server, "traffic")
    app.get_by_label("Sticky by header").fill("X-User-Id")
    app.get_by_role("button", name="Add a rule").click()
    app.get_by_label("Header", exact=True).fill("X-Canary")
    app.get_by_label("is", exact=True).fill(HOSTILE)
    app.get_by_label("goes to").select_option(SAME)
    app.get_by_role("button", name="Add a shadow").click()
    app.get_by_role("combobox", name="Version", exact=True).select_option(TURNED)
    expect(app.get_by_text(f"version {TURNED} also answers a copy of 100 % of the requests")).to_be_visible()
    app.get_by_role("button", name="Write the route").click()
    change(page, "all of it", "Write")
    route = route_of(server)
    assert route["sticky"] == "header:x-user-id"
    assert route["rules"] == [{"header": "x-canary", "equals": HOSTILE, "version": SAME}]
    assert route["shadow"] == [{"version": TURNED, "percent": 100}]


def test_a_rollout_is_started_watched_paused_and_aborted(open_page: OpenPage, server: Server) -> None:
    page, app = show(open_page, server, "rollouts")
    app.get_by_role("button", name="New rollout").click()
    app.get_by_label("Roll out").select_option(SAME)
    app.get_by_label("Steps in percent").fill("10! 100")
    app.get_by_label("Limit of Errors").fill("5")
    app.get_by_label("Limit of Latency", exact=False).first.fill("4")
    forecast = app.get_by_role("region", name="Forecast of each step")
    expect(forecast.get_by_role("row", name="1 10 %")).to_contain_text("a person's approval", timeout=MS)
    with traffic(server):
        app.get_by_role("button", name="Start the rollout").click()
        change(page, HOSTILE, "Start")
        guard = app.get_by_role("img", name="errors: pass")
        expect(guard).to_be_visible(timeout=MS)
        expect(app.get_by_text("What is still needed")).to_be_visible()
        expect(app.get_by_text("waits for a person's approval").first).to_be_visible(timeout=MS)
    page.page.keyboard.press("p")
    change(page, "lunch", "Pause")
    expect(app.get_by_role("button", name="Resume")).to_be_visible(timeout=MS)
    page.page.keyboard.press("x")
    change(page, "enough", "Abort")
    expect(app.get_by_text("rolled back").first).to_be_visible(timeout=MS)
    history = app.get_by_role("region", name="Changes of this trial")
    expect(history.get_by_role("row")).to_have_count(4, timeout=MS)  # with the head
    expect(history).to_contain_text(HOSTILE)
    expect(app.get_by_role("button", name="Abort")).to_have_count(0)
    [rollout] = server.admin("GET", f"{ADMIN}/rollouts").json()["rollouts"][:1]
    assert (rollout["state"], rollout["reason"]) == ("rolled_back", "enough")


def test_a_step_is_approved_and_the_version_promoted(open_page: OpenPage, server: Server) -> None:
    steps = [{"weight": 5000, "approval": True}, 10000]
    trial = begin(server, to=SAME, steps=steps, min_step_seconds=600)
    page, app = show(open_page, server, f"rollouts/{trial['id']}")
    expect(app.get_by_role("button", name="Approve the step")).to_be_visible(timeout=MS)
    page.page.keyboard.press("y")
    change(page, "looks right", "Approve the step")
    page.wait_until(lambda: "looks right" in str(server.admin("GET", f"{ADMIN}/rollouts").json()), "the approval")
    page.page.keyboard.press("m")
    change(page, "sure", "Promote now")
    expect(app.get_by_text("promoted", exact=True).first).to_be_visible(timeout=MS)
    assert route_of(server)["split"] == {SAME: 10_000}


def test_while_a_rollout_decides_the_route_cannot_be_changed_and_why(open_page: OpenPage, server: Server) -> None:
    trial = begin(server, to=SAME, min_step_seconds=600)
    page, app = show(open_page, server, "traffic")
    expect(app.get_by_text("A rollout decides the traffic until it is over.")).to_be_visible()
    expect(app.get_by_label(f"Weight of version {SAME}", exact=True)).to_have_count(0)
    app.get_by_role("link", name="Look at it").click()
    expect(page.page).to_have_url(re.compile(f"/rollouts/{trial['id']}$"))


def test_a_shadow_shows_both_answers(open_page: OpenPage, server: Server) -> None:
    set_route(server, split={GOOD: 10_000}, shadow=[{"version": TURNED, "percent": 100}])
    ask_many(server, 40)
    page, app = show(open_page, server, f"shadow/{TURNED}")
    first = app.get_by_role("region", name=re.compile("Both answers to .*, output y")).first
    expect(first).to_be_visible(timeout=MS)
    expect(first.get_by_role("columnheader", name=f"Version {GOOD}")).to_be_visible()
    expect(first.get_by_text("differs").first).to_be_visible()
    app.get_by_label("Show elements that are the same").check()
    expect(page.page).to_have_url(re.compile(r"\?all=1$"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A gateway with authentication by keys, and its folder."""
    folder = tmp_path_factory.mktemp("guarded")
    with harness.running(models(folder / "models"), folder, env=ACCEPT_KEYS) as running:
        yield running, folder


def test_a_viewer_sees_why_there_are_no_actions(open_page: OpenPage, guarded: tuple[Server, Path]) -> None:
    server, folder = guarded
    asked = {"to": SAME, "from": GOOD, "min_step_seconds": 600, "reason": HOSTILE}
    trial = ask_owner(folder / "home", "POST", f"{ADMIN}/rollouts", asked)
    page = open_page(server)
    page.expect(401)  # who is there? nobody yet
    page.open(f"{MODEL}/rollouts/{trial['id']}")
    page.page.get_by_label("API key or token").fill(create_key(folder, "eve", "viewer"))
    page.page.get_by_role("button", name="Sign in").click()
    app = app_of(page)
    expect(app.get_by_text("You need the permission “operate” for this model.").first).to_be_visible(timeout=MS)
    for name in ("Pause", "Promote now", "Abort"):
        expect(app.get_by_role("button", name=name)).to_have_count(0)
    page.page.keyboard.press("x")
    expect(page.page.get_by_role("dialog")).to_have_count(0)
    ask_owner(folder / "home", "POST", f"{ADMIN}/rollouts/{trial['id']}/abort", {"reason": "over"})
    expect(app.get_by_text("rolled back").first).to_be_visible(timeout=MS)
    for path, absent in (("traffic", "Write the route"), ("rollouts", "New rollout")):
        page.open(f"{MODEL}/{path}")
        expect(app.get_by_text("You need the permission “operate” for this model.")).to_be_visible(timeout=MS)
        expect(app.get_by_role("button", name=absent)).to_have_count(0)


@pytest.fixture
def paths(server: Server) -> list[str]:
    """The pages that look otherwise while a rollout decides."""
    rules = [{"header": "x-canary", "equals": "x" * 200, "version": SAME}]
    set_route(server, split={GOOD: 9000, SAME: 1000}, rules=rules, reason=HOSTILE)
    ask_many(server, 40)
    trial = begin(server, to=SAME, min_step_seconds=600, reason=HOSTILE * 20)
    return ["traffic", f"rollouts/{trial['id']}"]


def test_every_view_is_accessible_and_fits_a_narrow_window(
    open_page: OpenPage, server: Server, paths: list[str]
) -> None:
    page, _ = show(open_page, server, paths[0], size=(360, 800))
    for path in paths:
        page.open(f"{MODEL}/{path}")
        expect(app_of(page).get_by_role("heading", level=2).first).to_be_visible(timeout=MS)
        page.check_accessible(path)
        assert page.overflow() <= 0, path
