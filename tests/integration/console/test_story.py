"""The work of an operator from start to end on one gateway with real traffic and a real drift, by clicks; and what an
operator does to a model by keyboard alone."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests import harness
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import PATIENCE_S, Server, call, wait_until
from tests.integration.traffic.drive import scorer, traffic
from tests.integration.traffic.test_monitor import csv, send, show
from tests.integration.traffic.test_retraining import answer_and_label
from tests.keyboard import Keyboard

pytestmark = needs_chromium

LOOP = """
capture: {sample: 1.0}
monitor: {window_seconds: 60}
triggers:
  - name: drifted
    when: {drift: {scope: features}}
retraining:
  approval: true
  gates: {held_out: {metric: accuracy, min_rows: 60, share: 0.4}}
  auto_rollout: {steps: [5000, 10000], min_step_seconds: 1, guards: [{metric: errors, max_increase: 0.05}]}
"""
"""The policy that closes the loop: a drift asks for retraining, and a person approves what comes of it."""

APPROVAL = """
retraining:
  approval: true
  auto_rollout: {steps: [5000, 10000], min_step_seconds: 600, guards: [{metric: errors}]}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with a registry that has one version of two models, ``m`` for clicks and ``k`` for keys."""
    folder = tmp_path_factory.mktemp("story")
    with harness.running(None, folder, "--workers", "1") as server:
        for model in ("m", "k"):
            assert server.push(model, "1", scorer().SerializeToString()).status == 201
        kept = server.as_owner("PUT", "/admin/v1/models/m/policy", {"capture": {"sample": 1.0}, "reason": "for exams"})
        assert kept.status == 200, kept  # only the gateway's own user lets rows be kept
        yield server


def loaded(page: GuardedPage, path: str = "") -> None:
    if path:
        page.open(path)
    page.wait_for("!document.querySelector('[data-loading]') && document.querySelector('#app h1')", path or "the view")


def document(server: Server, path: str) -> dict[str, Any]:
    found: dict[str, Any] = server.admin("GET", f"/admin/v1/models/{path}").json()
    return found


def rollouts(server: Server, model: str = "m") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(server, f"{model}/rollouts")["rollouts"]
    return found


def candidate_state(server: Server, model: str, version: str) -> str:
    candidates = document(server, f"{model}/candidates")["candidates"]
    return next((str(item["state"]) for item in candidates if item["version"] == version), "")


def reasons(server: Server, model: str) -> set[str]:
    """Every reason that somebody gave for a change of a model."""
    entries = server.admin("GET", f"/admin/v1/audit?model={model}&limit=100").json()["entries"]
    return {entry["reason"] for entry in entries}


# By clicks.


def test_the_whole_story_by_clicks(registry: Server, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(registry)
    page.expect_disconnects()
    push_by_click(page, registry, tmp_path, "2")
    point_champion(page, registry)
    with traffic(registry, threads=2):
        roll_out(page, registry)
    close_the_loop(page, registry)
    drift(page, registry)
    follow_the_alarm(page)
    push_by_click(page, registry, tmp_path, "3")
    approve_the_candidate(page, registry)
    with traffic(registry, threads=2):
        watch_the_promotion(page, registry)
    assert document(registry, "m")["aliases"] == {"champion": "3"}
    assert reasons(registry, "m") >= {
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


def push_by_click(page: GuardedPage, server: Server, folder: Path, version: str) -> None:
    loaded(page, "/console/models/m")
    file = folder / f"{version}.onnx"
    file.write_bytes(scorer().SerializeToString())
    page.page.get_by_label("File to push").set_input_files(str(file))
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
    page.wait_until(lambda: document(server, "m")["aliases"] == {"champion": "1"}, "the alias")


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


def is_in(server: Server, state: str) -> bool:
    return bool(rollouts(server)[0]["state"] == state)


def close_the_loop(page: GuardedPage, server: Server) -> None:
    """Give the new version a reference, and change the policy as YAML."""
    made = call(server.ops, "PUT", "/admin/v1/models/m/versions/2/reference", csv())
    assert made.status == 201, made
    wait_until(lambda: show(server, "2")["reference"] is not None, PATIENCE_S, "the reference")
    page.page.get_by_role("link", name="Monitor").click()
    page.page.get_by_role("button", name="Change the policy").click()
    page.page.get_by_role("button", name="YAML").click()
    page.page.get_by_label("Policy as YAML").fill(LOOP)
    page.page.get_by_role("button", name="Check, then give a reason").click()
    page.page.get_by_label("Reason").wait_for()
    confirm(page, "Change the policy", "close the loop")


def drift(page: GuardedPage, server: Server) -> None:
    """Send rows that have moved: the page that is open shows the drift, its alarm and the request by itself."""
    send(server, "2", 1200, shift=1.5)
    rows = app_of(page).get_by_role("region", name="Columns by evidence").locator("tbody tr")
    expect(rows.first).to_have_text(re.compile("^f0.*drift", re.DOTALL))
    alarm(page).get_by_role("link", name="retraining request").wait_for()


def alarm(page: GuardedPage) -> Locator:
    return app_of(page).get_by_role("region", name="Alarms").locator("tbody tr", has_text="f0 drifts").first


def follow_the_alarm(page: GuardedPage) -> None:
    """From the alarm to the traffic of its moment, to its event, and to the request that it caused."""
    alarm(page).get_by_role("link", name="requests a second").click()
    app_of(page).get_by_role("img", name="Requests a second").wait_for()
    page.wait_for("document.querySelector('.moment')", "the moment of the alarm")
    page.page.go_back()
    alarm(page).get_by_role("link", name="event", exact=True).click()
    chosen = page.page.locator("tr.chosen")
    expect(chosen).to_contain_text("f0 drifts")
    page.page.go_back()
    alarm(page).get_by_role("link", name="retraining request").click()
    expect(chosen).to_contain_text("retraining requested")
    chosen.get_by_role("link", name="version 2").click()
    page.wait_for_text("a request of version 2")
    page.wait_for_text("No version has come of the request yet.")


def approve_the_candidate(page: GuardedPage, server: Server) -> None:
    """The candidate waits for rows with labels, then shows its marks and gates, and waits for a person."""
    page.page.get_by_role("link", name="Retraining").click()
    app_of(page).get_by_role("link", name="Version 3").wait_for()
    answer_and_label(server, 400)
    page.wait_until(lambda: candidate_state(server, "m", "3") == "waits_for_approval", "the exam")
    marks = app_of(page).get_by_role("region", name="Marks of the exam")
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
    row = app_of(page).get_by_role("row", name="m", exact=False).filter(has_text="3: 100 %")
    expect(row).to_have_text(re.compile("[1-9]"))


def see_it_on_the_time_line(page: GuardedPage) -> None:
    """One line has it all, filtered by kind; a change of a policy is a difference."""
    page.page.get_by_role("link", name="Timeline").click()
    rows = app_of(page).get_by_role("region", name="Events and changes").locator("tbody tr")
    for text in ("drift detected", "retraining requested", "candidate approved", "rollout finished"):
        rows.filter(has_text=text).first.wait_for()
    app_of(page).get_by_label("Kind").select_option("policies")
    page.wait_until(lambda: all("policy" in text for text in rows.all_inner_texts()), "policies alone")
    rows.first.get_by_text("Before and after").click()
    expect(rows.first).to_contain_text("retraining")


# By keyboard alone.


def test_the_same_by_keyboard_alone(registry: Server, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(registry)
    page.expect_disconnects()
    keys = Keyboard(page)
    find_the_model(keys)
    push_by_keys(keys, registry, tmp_path, "2")
    move_an_alias(keys, registry)
    shift_traffic(keys, registry)
    try_an_experiment(keys, registry)
    change_the_policy(keys, registry)
    refuse_and_approve(keys, registry, tmp_path)


def find_the_model(keys: Keyboard) -> None:
    loaded(keys.page, "/console/models")
    keys.press("?")
    keys.page.wait_for_text("Everywhere")
    keys.press("Escape")
    for pressed, title in (("gf", "Fleet"), ("gt", "Timeline"), ("ga", "Access")):
        for key in pressed:
            keys.press(key)
        keys.page.wait_for(f"document.querySelector('#app h1')?.textContent === {title!r}", title)
    keys.press("/")
    keys.page.wait_for("document.activeElement?.type === 'search'", "the field of the search")
    keys.type("k")
    keys.page.wait_for("document.querySelector('.found')?.innerText.startsWith('k')", "the model")
    keys.press("Enter")
    keys.page.wait_until(lambda: keys.page.page.url.endswith("/console/models/k"), "the page of the model")
    loaded(keys.page)


def push_by_keys(keys: Keyboard, server: Server, folder: Path, version: str) -> None:
    file = folder / f"k{version}.onnx"
    file.write_bytes(scorer().SerializeToString())
    keys.go_to("File to push")
    keys.press("Enter")
    keys.page.wait_until(lambda: bool(keys.choosers), "the dialog for files")
    keys.choosers.pop().set_files(str(file))
    keys.retype("Version", version)
    keys.retype("Reason", f"pushed {version} by keys")
    keys.use("Push")
    keys.page.wait_for_text(f"admitted as version {version}")
    keys.page.wait_until(lambda: version in [item["version"] for item in document(server, "k")["versions"]], version)


def move_an_alias(keys: Keyboard, server: Server) -> None:
    keys.use("New alias")
    keys.confirm("the newest answers", "Move")
    keys.page.wait_until(lambda: document(server, "k")["aliases"] == {"champion": "2"}, "the alias")
    keys.use(
        "Roll back champion" if document(server, "k").get("alias_history", {}).get("champion") else "Move champion"
    )
    keys.page.wait_for("document.activeElement?.name === 'reason'", "the field of the reason")
    keys.go_to("Version")
    keys.press("ArrowUp")
    keys.go_to("Reason")
    keys.type("back to the first")
    keys.use("Move")
    keys.page.wait_until(lambda: document(server, "k")["aliases"] == {"champion": "1"}, "the alias before")


def shift_traffic(keys: Keyboard, server: Server) -> None:
    keys.open_tab("Traffic", "k")
    keys.go_to("Add a version")
    keys.press("ArrowDown")
    keys.retype("Points of version 2 out of 10,000", "2500")
    keys.press("Tab")
    keys.page.wait_for_text("What this does")
    keys.page.page.evaluate("document.activeElement.blur()")
    keys.press_offered("w", "write the route")
    keys.confirm("a quarter for the second", "Write")
    keys.page.wait_until(lambda: document(server, "k/route")["split"] == {"1": 7500, "2": 2500}, "the route")


def try_an_experiment(keys: Keyboard, server: Server) -> None:
    keys.open_tab("Rollouts", "k")
    keys.use("New experiment")
    keys.use("Start the experiment")
    keys.confirm("which is better", "Start")
    keys.press_offered("x", "stop")
    keys.confirm("seen enough", "Stop")
    keys.page.wait_until(lambda: document(server, "k/experiments")["experiments"][0]["state"] == "stopped", "its end")


def change_the_policy(keys: Keyboard, server: Server) -> None:
    """By the form, and as YAML."""
    keys.open_tab("Monitor", "k")
    keys.press_offered("e", "edit the policy")
    keys.page.wait_for("document.querySelector('dialog input')", "the form")
    keys.retype("Window of the effect sizes", "120")
    keys.use("Check, then give a reason")
    keys.confirm("a shorter window", "Change the policy")
    keys.page.wait_until(lambda: document(server, "k/policy")["monitor"]["window_seconds"] == 120, "the window")
    keys.press_offered("e", "edit the policy")
    keys.page.wait_for("document.querySelector('dialog input')", "the form")
    keys.use("YAML")
    keys.go_to("Policy as YAML")
    keys.press("ControlOrMeta+a")
    keys.page.page.keyboard.insert_text(APPROVAL)
    keys.use("Check, then give a reason")
    keys.confirm("a person decides", "Change the policy")
    keys.page.wait_until(lambda: document(server, "k/policy")["retraining"]["approval"] is True, "the policy")


def refuse_and_approve(keys: Keyboard, server: Server, folder: Path) -> None:
    keys.open_tab("Retraining", "k")
    keys.press_offered("r", "ask for retraining")
    keys.confirm("it is time", "Ask")
    for version, button in (("3", "Refuse"), ("4", "Approve")):
        keys.open_tab("Versions", "k")
        push_by_keys(keys, server, folder, version)
        keys.open_tab("Retraining", "k")
        wait_until(partial(is_waiting, server, version), PATIENCE_S, f"candidate {version}")
        keys.page.wait_for_text(f"Version {version}")
        keys.use(f"{button} version {version}")
        keys.confirm(f"{button} by keys", button)
    keys.page.wait_until(lambda: candidate_state(server, "k", "4") == "passed", "the approval")
    assert candidate_state(server, "k", "3") == "refused"
    assert reasons(server, "k") >= {
        "Refuse by keys",
        "Approve by keys",
        "it is time",
        "a person decides",
        "seen enough",
    }


def is_waiting(server: Server, version: str) -> bool:
    return candidate_state(server, "k", version) == "waits_for_approval"
