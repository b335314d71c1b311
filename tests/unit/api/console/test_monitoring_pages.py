"""The pages of the monitor, of a column, of retraining and of the timeline read without a script; texts stay texts."""

import pytest

from penstock.api.console.pages.monitor import show_number, show_time
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.monitor_documents import HOSTILE

BROWSER = {"accept": "text/html"}
MODEL = "/console/models/good"


def read(client: Client, path: str) -> str:
    answer = client.get(path, BROWSER)
    assert answer.status_code == 200, answer.text
    assert HOSTILE not in answer.text
    return answer.text


def test_the_monitor_has_its_columns_by_evidence_and_what_is_beside_them(client: Client) -> None:
    text = read(client, f"{MODEL}/monitor")
    assert "1 of 30 columns drift" in text
    assert text.index('monitor/age"') < text.index("monitor/%3Cscript%3E")
    for part in (
        "12.5",
        "11.7",
        "3..4 +25.0%",
        "Latency by stage",
        "decode",
        "Data quality",
        "2.00%",
        "accuracy",
        "0.88",
    ):
        assert part in text
    assert "come after 3 s (median)" in text
    assert "No version answers" in read(client, f"{MODEL}/monitor?version=none")
    assert "learned from traffic" in read(client, f"{MODEL}/monitor?version=new")


def test_a_column_has_its_bins_effect_sizes_and_evidence(client: Client) -> None:
    text = read(client, f"{MODEL}/monitor/a%2Fb")
    assert "column a/b" in text
    assert 'href="../../../../console/models/good/monitor"' in text  # the encoded slash is not a step
    for part in ("12.5 of 11.7 for an alarm", "Kolmogorov-Smirnov", "75.0%", "50.0%", "Evidence over time"):
        assert part in text
    assert "Evidence over time" not in read(client, f"{MODEL}/monitor/x?version=stored")


def test_retraining_has_rules_candidates_and_deliveries(client: Client) -> None:
    text = read(client, f"{MODEL}/retraining")
    for part in ("firing", "requested", "1 of at most 24", "a request of version 1", "refused", "dead", "hook"):
        assert part in text


@pytest.mark.parametrize("query", ["", "?model=good&kind=drift&person=ann"])
def test_the_timeline_has_differences_and_leads_on(client: Client, query: str) -> None:
    text = read(client, f"/console/timeline{query}")
    for part in ("drift detected", "route set", "split.1", "- 10000", "+ 9000", "and 3 more"):
        assert part in text
    assert ">record<" not in text
    assert "before=5-9" in text
    if query:
        assert 'value="ann"' in text
        assert "person=ann" in text


def test_numbers_and_times_without_a_value() -> None:
    assert [show_number(value) for value in (None, 12_345, 0.12345, 0.0)] == ["-", "12,345", "0.123", "0"]
    assert [show_time(value) for value in (None, 0, 1.0)] == ["", "", "1970-01-01 00:00:01 UTC"]
