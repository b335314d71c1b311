"""The demo's story, told by an operator on one gateway with the demo's classifiers, traffic and drift: from the first
push to the promotion of the retrained version by clicks, and what an operator does to a model by keyboard alone."""

import re
from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import Locator, expect

from penstock.cli.demo.loop import shift_digits
from penstock.core.tensors import Array
from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import PATIENCE_S, Server, call, wait_until
from tests.integration.console.digits import MODEL, Digits, calling, label, scan
from tests.integration.console.story_by_keys import (
    change_the_policy,
    find_it_on_the_time_line,
    find_the_model,
    move_an_alias,
    promote,
    push_by_keys,
    refuse_and_approve,
    shift_traffic,
    shift_traffic_back,
    try_an_experiment,
)
from tests.integration.console.story_state import candidate_state, document, is_in, loaded, reasons, rollouts
from tests.keyboard import Keyboard

pytestmark = needs_chromium

LOOP = """
capture: {sample: 1.0}
monitor: {window_seconds: 60}
triggers:
  - name: drifted
    when: {drift: {scope: features}}
retraining:
  quality_veto: false
  approval: true
  gates: {held_out: {metric: accuracy, min_rows: 60, share: 0.4}}
  auto_rollout: {steps: [5000, 10000], min_step_seconds: 1, guards: [{metric: errors, max_increase: 0.05}]}
"""
"""The policy that closes the loop: a drift asks for retraining, and a person approves what comes of it."""


KINDS = (
    ("drift", "drift detected"),
    ("retraining", "retraining requested"),
    ("candidates", "candidate approved"),
    ("rollouts", "rollout finished"),
    ("policies", "policy set"),
)
"""Kinds of the time line, and what has happened of each."""

LABELLED_ROWS = 400
LOOK_MS = 1000
SLIPPED_ROWS = 60
"""Rows that are sent at once while nobody has been asked for retraining: only the newest alarms are on the page."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return Digits.made(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Iterator[Server]:
    """A gateway with a registry that has one version of two models, ``digits`` for clicks and ``k`` for keys."""
    folder, path = tmp_path_factory.mktemp("story"), f"/admin/v1/models/{MODEL}/policy"
    with harness.running(None, folder, "--workers", "1") as server:
        assert server.push(MODEL, "1", digits.file("1").read_bytes()).status == 201
        assert server.push("k", "1", digits.graph("1").read_bytes()).status == 201
        kept = server.as_owner("PUT", path, {"capture": {"sample": 1.0}, "reason": "for exams"})
        assert kept.status == 200, kept  # only the gateway's own user lets rows be kept
        yield server


# By clicks.


def test_the_whole_story_by_clicks(registry: Server, open_page: OpenPage, digits: Digits) -> None:
    page, scans = open_page(registry), digits.scans
    page.expect_disconnects()
    push_by_click(page, digits, "2")
    point_champion(page, registry)
    with calling(registry, scans.test_rows):
        roll_out(page, registry)
    close_the_loop(page, registry, digits)
    drift(page, registry, shift_digits(scans.train_rows))
    follow_the_alarm(page)
    push_by_click(page, digits, "3")
    approve_the_candidate(page, registry, digits)
    with calling(registry, shift_digits(scans.test_rows)):
        watch_the_promotion(page, registry)
    assert document(registry, MODEL)["aliases"] == {"champion": "3"}
    assert reasons(registry, MODEL) >= {
        *("version 2 is better", "the first one answers", "try the second", "look closer", "go on", "it is good"),
        *("close the loop", "version 3 is better", "its marks are as good"),
    }
    see_it_on_the_time_line(page)


def confirm(page: GuardedPage, button: str, reason: str) -> None:
    """Give the reason in the open dialog, and perform."""
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(reason)
    perform = dialog.locator("button.primary, button.danger")
    expect(perform).to_contain_text(button)
    perform.click()
    expect(dialog).to_have_count(0)


def app_of(page: GuardedPage) -> Locator:
    return page.page.locator("#app")


def push_by_click(page: GuardedPage, digits: Digits, version: str) -> None:
    loaded(page, f"/console/models/{MODEL}")
    page.page.get_by_label("File to push").set_input_files(digits.file(version))
    page.page.get_by_label("Version", exact=True).fill(version)
    page.page.get_by_label("Reason").fill(f"version {version} is better")
    page.page.get_by_role("button", name="Push", exact=True).click()
    page.wait_for_text(f"admitted as version {version}")
    app_of(page).get_by_role("link", name=version, exact=True).wait_for()


def point_champion(page: GuardedPage, server: Server) -> None:
    page.page.get_by_role("button", name="New alias").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Alias").fill("champion")
    dialog.get_by_label("Version").select_option("1")
    confirm(page, "Move", "the first one answers")
    page.wait_until(lambda: document(server, MODEL)["aliases"] == {"champion": "1"}, "the alias")


def roll_out(page: GuardedPage, server: Server) -> None:
    page.page.get_by_role("link", name="Rollouts").click()
    page.page.get_by_role("button", name="New rollout").click()
    page.page.get_by_label("Roll out").select_option("2")
    page.page.get_by_label("Steps in percent; 5! waits for an approval").fill("10! 100")  # waits, however slow the test
    page.page.get_by_role("checkbox", name="Latency", exact=True).uncheck()  # on a busy machine either may be slower
    page.page.get_by_label("Limit of Errors").fill("5")
    page.wait_for_text("version 2 gets 10 %")  # the preview
    page.page.get_by_role("button", name="Start the rollout").click()
    confirm(page, "Start", "try the second")
    page.wait_until(lambda: "/rollouts/" in page.page.url, "the page of the rollout")
    steps = (("Pause", "look closer", "paused"), ("Resume", "go on", "running"), ("Promote", "it is good", "promoted"))
    for button, reason, state in steps:
        page.page.get_by_role("button", name=re.compile(f"^{button}")).click()
        confirm(page, button, reason)
        page.wait_until(partial(is_in, server, state), state)
        page.wait_for_text(reason)


def close_the_loop(page: GuardedPage, server: Server, digits: Digits) -> None:
    """Give the new version a reference, and change the policy as YAML."""
    made = call(server.ops, "PUT", f"/admin/v1/models/{MODEL}/versions/2/reference", digits.reference())
    assert made.status == 201, made
    wait_until(lambda: document(server, f"{MODEL}/monitor")["reference"] is not None, PATIENCE_S, "the reference")
    page.page.get_by_role("link", name="Monitor").click()
    page.page.get_by_role("button", name="Change the policy").click()
    page.page.get_by_role("button", name="YAML").click()
    page.page.get_by_label("Policy as YAML").fill(LOOP)
    page.page.get_by_role("button", name="Check, then give a reason").click()
    page.page.get_by_label("Reason").wait_for()
    confirm(page, "Change the policy", "close the loop")


def drift(page: GuardedPage, server: Server, rows: Array) -> None:
    """Send scans that have slipped: the page that is open shows the drift, its alarm and the request by itself."""
    starts = iter(range(0, len(rows), SLIPPED_ROWS))

    def is_seen() -> bool:
        if alarm(page).count():
            return True
        if (start := next(starts, None)) is not None:
            scan(server, rows[start : start + SLIPPED_ROWS])
        page.page.wait_for_timeout(LOOK_MS)
        return False

    page.wait_until(is_seen, "the alarm that has asked for retraining")
    columns = app_of(page).get_by_role("region", name="Columns by evidence").locator("tbody tr")
    expect(columns.first).to_have_text(re.compile("^row [0-7] column [0-7].*drift", re.DOTALL))


def alarm(page: GuardedPage) -> Locator:
    """The newest alarm that has caused a request for retraining."""
    caused = page.page.get_by_role("link", name="retraining request")
    return app_of(page).get_by_role("region", name="Alarms").locator("tbody tr", has_text="drifts", has=caused).first


def follow_the_alarm(page: GuardedPage) -> None:
    """From the alarm to the traffic of its moment, to its event, and to the request that it caused."""
    alarm(page).get_by_role("link", name="requests a second").click()
    app_of(page).get_by_role("img", name="Requests a second").wait_for()
    page.wait_for("document.querySelector('.moment')", "the moment of the alarm")
    page.page.go_back()
    alarm(page).get_by_role("link", name="event", exact=True).click()
    chosen = page.page.locator("tr.chosen")
    expect(chosen).to_contain_text("drifts from its reference")
    page.page.go_back()
    alarm(page).get_by_role("link", name="retraining request").click()
    expect(chosen).to_contain_text("retraining requested")
    chosen.get_by_role("link", name="version 2").click()
    page.wait_for_text("a request of version 2")
    page.wait_for_text("No version has come of the request yet.")


def approve_the_candidate(page: GuardedPage, server: Server, digits: Digits) -> None:
    """The candidate waits for rows with labels, then shows its marks and gates, and waits for a person."""
    page.page.get_by_role("link", name="Retraining").click()
    app_of(page).get_by_role("link", name="Version 3").wait_for()
    label(server, shift_digits(digits.scans.train_rows[:LABELLED_ROWS]), digits.scans.train_labels[:LABELLED_ROWS])
    page.wait_until(lambda: candidate_state(server, MODEL, "3") == "waits_for_approval", "the exam")
    marks = app_of(page).get_by_role("region", name="Scores of the exam")
    marks.get_by_text("all rows").wait_for()
    app_of(page).locator("summary", has_text="Gates").click()
    app_of(page).locator("details[open]").first.wait_for()
    page.page.get_by_role("button", name="Approve").click()
    confirm(page, "Approve", "its marks are as good")


def watch_the_promotion(page: GuardedPage, server: Server) -> None:
    page.page.get_by_role("link", name="Rollouts").click()
    app_of(page).get_by_role("link", name="2 → 3").click()
    page.wait_until(lambda: rollouts(server)[0]["state"] == "promoted", "the promotion")
    page.wait_for_text("promoted")
    page.page.get_by_role("link", name="Models", exact=True).click()
    row = app_of(page).get_by_role("row", name=MODEL, exact=False).filter(has_text="3: 100 %")
    expect(row).to_have_text(re.compile("[1-9]"))


def see_it_on_the_time_line(page: GuardedPage) -> None:
    """One line has it all, filtered by kind; a change of a policy is a difference."""
    page.page.get_by_role("link", name="Timeline").click()
    rows = app_of(page).get_by_role("region", name="Events and changes").locator("tbody tr")
    for kind, text in KINDS:
        app_of(page).get_by_label("Kind").select_option(kind)
        rows.filter(has_text=text).first.wait_for()
    page.wait_until(lambda: all("policy" in text for text in rows.all_inner_texts()), "policies alone")
    rows.first.get_by_text("Before and after").click()
    expect(rows.first).to_contain_text("retraining")


def test_the_same_by_keyboard_alone(registry: Server, open_page: OpenPage, digits: Digits) -> None:
    page = open_page(registry)
    page.expect_disconnects()
    keys = Keyboard(page)
    find_the_model(keys)
    push_by_keys(keys, registry, digits, "2")
    move_an_alias(keys, registry)
    shift_traffic(keys, registry)
    try_an_experiment(keys, registry)
    shift_traffic_back(keys, registry)
    change_the_policy(keys, registry)
    refuse_and_approve(keys, registry, digits)
    promote(keys, registry)
    find_it_on_the_time_line(keys)
