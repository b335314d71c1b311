"""What an operator does to a model by keyboard alone, step by step."""

from functools import partial

from playwright.sync_api import expect

from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.console.digits import Digits
from tests.integration.console.story_state import candidate_state, document, is_in, loaded, reasons
from tests.keyboard import Keyboard

APPROVAL = """
retraining:
  approval: true
  auto_rollout: {steps: [5000, 10000], min_step_seconds: 600, guards: [{metric: errors}]}
"""

GRAPHS = {"2": "2", "3": "1", "4": "3"}
"""The classifier of each version that is pushed by keys."""


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


def push_by_keys(keys: Keyboard, server: Server, digits: Digits, version: str) -> None:
    keys.go_to("File to push")
    keys.press("Enter")
    keys.page.wait_until(lambda: bool(keys.choosers), "the dialog for files")
    keys.choosers.pop().set_files(digits.graph(GRAPHS[version]))
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


def shift_traffic_back(keys: Keyboard, server: Server) -> None:
    """What passes its gates is rolled out only from one version that has all the traffic."""
    keys.open_tab("Traffic", "k")
    keys.use("Remove version 2 from the split")
    keys.page.wait_for_text("What this does")
    keys.page.page.evaluate("document.activeElement.blur()")
    keys.press_offered("w", "write the route")
    keys.confirm("the first again", "Write")
    keys.page.wait_until(lambda: document(server, "k/route")["split"] == {"1": 10_000}, "the route")


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


def refuse_and_approve(keys: Keyboard, server: Server, digits: Digits) -> None:
    keys.open_tab("Retraining", "k")
    keys.press_offered("r", "ask for retraining")
    keys.confirm("it is time", "Ask")
    for version, button in (("3", "Refuse"), ("4", "Approve")):
        keys.open_tab("Versions", "k")
        push_by_keys(keys, server, digits, version)
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


def promote(keys: Keyboard, server: Server) -> None:
    """Open the rollout that the approval has begun, by the keys of its row, and end it."""
    keys.open_tab("Rollouts", "k")
    keys.page.wait_for("document.querySelector('#app tr[data-row]')?.innerText.includes('1 → 4')", "the rollout")
    keys.page.page.evaluate("document.activeElement.blur()")
    keys.press("j")
    keys.press("Enter")
    keys.page.wait_until(lambda: "/rollouts/" in keys.page.page.url, "the page of the rollout")
    for key, title, state in (("p", "Pause", "paused"), ("r", "Resume", "running"), ("m", "Promote now", "promoted")):
        keys.press_offered(key, title.lower())
        keys.confirm(f"{title} by keys", title)
        keys.page.wait_until(partial(is_in, server, state, "k"), state)
    keys.page.wait_until(lambda: document(server, "k/route")["split"] == {"4": 10_000}, "the route")


def find_it_on_the_time_line(keys: Keyboard) -> None:
    """Filter by keys, and open what a row is about."""
    keys.press("g")
    keys.press("t")
    keys.page.wait_for("document.querySelector('#app h1')?.textContent === 'Timeline'", "the time line")
    keys.page.wait_for("!document.querySelector('[data-loading]')", "its entries")
    keys.press("/")
    keys.type("k")
    keys.page.wait_until(lambda: "model=k" in keys.page.page.url, "the filter in the address")
    keys.go_to("Kind")
    keys.type("rollouts")
    rows = keys.page.page.locator("#app tbody tr")
    expect(rows.filter(has_text="Promote now by keys").first).to_be_visible()
    keys.page.page.evaluate("document.activeElement.blur()")
    keys.press("j")
    keys.press("Enter")
    keys.page.wait_until(lambda: "/models/k/" in keys.page.page.url, "the object of the entry")


def is_waiting(server: Server, version: str) -> bool:
    return candidate_state(server, "k", version) == "waits_for_approval"
