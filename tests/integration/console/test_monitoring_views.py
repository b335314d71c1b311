"""The monitor, a column, retraining and the time line in a browser, on a gateway whose model has drifted."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import GOOD, SAME
from tests.integration.traffic.test_monitor import send
from tests.integration.traffic.test_retraining import give_reference, receiving, set_policy

pytestmark = needs_chromium

HOSTILE = "<img src=x onerror=alert(1)> slow & old"
MODEL, ADMIN = "/console/models/m", "/admin/v1/models/m"


def happened(server: Server, kind: str) -> list[dict[str, Any]]:
    found = server.admin("GET", f"/admin/v1/timeline?model=m&kind={kind}").json()
    return [*found["entries"]]


@pytest.fixture(scope="module")
def drifted(gateway: Server) -> Iterator[Server]:
    """A column has drifted, a rule has asked for retraining, its event was given up, and a candidate was refused."""
    with receiving() as hook:
        hook.answers = [(410, {})]
        give_reference(gateway)
        rule = {"name": "drifted", "when": {"drift": {"scope": "features"}}, "send": ["hook"]}
        sinks = {"hook": {"webhook": {"url": f"{hook.url}/retrain"}}}
        set_policy(gateway, monitor={"window_seconds": 600}, triggers=[rule], sinks=sinks, reason=HOSTILE)
        send(gateway, GOOD, 1200)
        for _ in range(5):  # the evidence over time has a point every five seconds
            send(gateway, GOOD, 400, shift=1.5)
            time.sleep(1.5)
        wait_until(lambda: happened(gateway, "delivery.failed") != [], PATIENCE_S, "a dead delivery")
        refused = gateway.admin("POST", f"{ADMIN}/candidates/{SAME}/refuse", {"reason": HOSTILE})
        assert refused.status == 200, refused
        yield gateway


def see(page: GuardedPage, text: str) -> None:
    """Wait until the page shows a text."""
    page.wait_until(lambda: text in page.page.inner_text("body"), f"the text {text!r}")


def check_form(page: GuardedPage) -> None:
    """No script of a user runs, axe finds nothing, and nothing overflows on a small screen."""
    assert page.page.locator("img").count() == 0
    page.check_accessible()
    page.page.set_viewport_size({"width": 360, "height": 800})
    page.wait_until(lambda: page.overflow() == 0, "a page of 360 pixels without overflow")


def test_columns_by_evidence_lead_to_the_alarm_and_to_what_it_caused(drifted: Server, open_page: OpenPage) -> None:
    page = open_page(drifted)
    page.open(f"{MODEL}/monitor")
    rows = page.page.locator("#app").get_by_role("region", name="Columns by evidence").locator("tbody tr")
    expect(rows.first).to_have_text(re.compile("^f0.*drift", re.DOTALL))
    expect(rows.first.get_by_role("img", name=re.compile("^f0: largest move in"))).to_be_visible()
    for text in ("columns drift", "Latency by stage", "Data quality", "Performance", "Moved most"):
        see(page, text)
    alarms = page.page.get_by_role("region", name="Alarms").locator("tbody tr", has_text="f0 drifts")
    alarms.get_by_role("link", name="retraining request").wait_for()
    check_form(page)
    alarms.get_by_role("link", name="event").click()
    chosen = page.page.locator("tr.chosen")
    expect(chosen).to_contain_text("f0 drifts")
    chosen.get_by_role("link", name="column f0").click()
    see(page, "Evidence over time")


def test_columns_are_found_by_name_and_the_filter_survives_a_reload(drifted: Server, open_page: OpenPage) -> None:
    page = open_page(drifted)
    page.open(f"{MODEL}/monitor")
    rows = page.page.locator("#app").get_by_role("region", name="Columns by evidence").locator("tbody tr")
    rows.first.wait_for()
    page.page.get_by_label("Find columns").fill("f2")
    page.wait_until(lambda: "search=f2" in page.page.url, "the search in the address")
    for _ in range(2):
        page.wait_until(lambda: {text.split()[0] for text in rows.all_inner_texts()} == {"f2", "(joint)"}, "one column")
        page.page.reload()
        rows.first.wait_for()


def test_a_column_has_its_histogram_and_its_evidence_over_time(drifted: Server, open_page: OpenPage) -> None:
    page = open_page(drifted, theme="dark")
    page.open(f"{MODEL}/monitor/f0")
    chart = page.page.get_by_role("img", name="Evidence over time")
    expect(chart).to_have_attribute("aria-label", re.compile(re.escape("alarm at 11.7")))
    for text in ("Effect sizes", "more than chance", "Bins", "Kolmogorov-Smirnov", "f0 drifts"):
        see(page, text)
    check_form(page)


def test_a_policy_is_changed_as_yaml_with_faults_by_line_and_a_conflict_shown(
    drifted: Server, open_page: OpenPage
) -> None:
    page = open_page(drifted)
    page.open(f"{MODEL}/monitor")
    page.page.get_by_role("button", name="Change the policy").wait_for()
    page.page.keyboard.press("e")
    page.page.get_by_role("button", name="YAML").click()
    text = page.page.get_by_label("Policy as YAML")
    expect(text).to_have_value(re.compile("window_seconds: 600"))
    policy = text.input_value()
    text.fill(policy.replace("window_seconds: 600", "window_seconds: soon"))
    check = page.page.get_by_role("button", name="Check, then give a reason")
    check.click()
    fault = page.page.get_by_role("button", name="Line 3")
    fault.wait_for()
    page.check_accessible("the editor with a fault")
    fault.click()
    text.fill(policy.replace("window_seconds: 600", "window_seconds: 700"))
    check.click()
    page.page.get_by_label("Reason").wait_for()
    page.page.keyboard.press("Escape")  # what was typed is still there, and the form shows it, too
    expect(text).to_have_value(re.compile("window_seconds: 700"))
    page.page.get_by_role("button", name="Form", exact=True).click()
    expect(page.page.get_by_label("Window of the effect")).to_have_value("700")
    check.click()
    page.page.get_by_label("Reason").fill(HOSTILE)
    present = drifted.admin("GET", f"{ADMIN}/policy").json()
    del present["revision"]
    set_policy(drifted, **{**present, "slo": {"error_ratio": 0.5}}, reason="meanwhile")
    page.expect(409)
    page.page.get_by_role("button", name="Change the policy", exact=True).last.click()
    see(page, "Somebody changed it in between")
    page.page.get_by_role("button", name="Cancel").click()
    assert drifted.admin("GET", f"{ADMIN}/policy").json()["slo"] == {"error_ratio": 0.5}


def test_retraining_shows_rules_candidates_and_tries_dead_deliveries_again(
    drifted: Server, open_page: OpenPage
) -> None:
    page = open_page(drifted)
    page.open(f"{MODEL}/retraining")
    for text in ("Under way", "a request of version 1", "Version 2", "refused", "slow & old", "1 event was given up"):
        see(page, text)
    check_form(page)
    page.page.get_by_role("button", name="Try again", exact=True).first.click()
    page.page.get_by_label("Reason").fill("the receiver is back")
    page.page.get_by_role("dialog").get_by_role("button", name="Try again").click()
    see(page, "sent")
    assert happened(drifted, "outbox.replay")[0]["reason"] == "the receiver is back"


def change_route(server: Server, person: str, share: int) -> None:
    route = {"split": {GOOD: share, SAME: 10_000 - share}, "reason": f"{share} by {person}"}
    assert server.admin("PUT", f"{ADMIN}/route", route, {"penstock-actor": person}).status == 200


def test_the_time_line_is_filtered_by_person(drifted: Server, open_page: OpenPage) -> None:
    change_route(drifted, "ann", 9000)
    change_route(drifted, "bob", 9100)
    page = open_page(drifted)
    page.open("/console/timeline?model=m")
    app = page.page.locator("#app")
    rows = app.get_by_role("region", name="Events and changes").locator("tbody tr")
    app.get_by_label("Person").fill("bob")
    expect(page.page).to_have_url(re.compile("person=bob"))
    for _ in range(2):  # also after the page is loaded again
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("9100 by bob")
        page.page.reload()
        expect(app.get_by_label("Person")).to_have_value("bob")
    change_route(drifted, "ann", 9200)
    change_route(drifted, "bob", 9300)  # comes by the stream, and that of somebody else does not
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("9300 by bob")
    app.get_by_label("Person").fill("nobody")
    expect(app).to_contain_text("Nothing matches.")
    app.get_by_role("button", name="Show everything").click()
    expect(page.page).to_have_url(re.compile("/console/timeline$"))
    rows.filter(has_text="9200 by ann").get_by_role("link", name="ann").click()
    expect(page.page).to_have_url(re.compile("person=ann"))
    expect(rows).to_have_count(2)
    assert drifted.admin("DELETE", f"{ADMIN}/route", {"reason": "over"}).status == 200


def test_the_time_line_is_filtered_in_the_address_and_shows_differences(drifted: Server, open_page: OpenPage) -> None:
    page = open_page(drifted)
    page.open("/console/timeline?model=m")
    rows = page.page.locator("#app").get_by_role("region", name="Events and changes").locator("tbody tr")
    rows.first.wait_for()
    page.page.locator("#app").get_by_label("Kind").select_option("policies")
    page.wait_until(lambda: "kind=policy" in page.page.url, "the kind in the address")
    page.wait_until(
        lambda: rows.count() > 0 and all("policy set" in text for text in rows.all_inner_texts()), "policies alone"
    )
    first = rows.filter(has_text="slow & old")
    first.get_by_text("Before and after").click()
    first.get_by_text("monitor.window_seconds").wait_for()
    expect(first).to_contain_text("+ 600")
    check_form(page)
    page.page.keyboard.press("j")
    assert page.page.evaluate("document.activeElement.closest('[data-row]') !== null")
