"""The pages of traffic, rollouts, experiments and shadows, as they read without a script; texts of users stay texts."""

import pytest

from tests.unit.api.admin.conftest import Client
from tests.unit.api.console.documents import EXPERIMENT, HOSTILE, ROUTE, SHADOW

ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"
MODEL = "/console/models/good"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (
            "traffic",
            [
                "99.95 %",
                "0.05 %",
                "99.9 %",
                "12.5",
                "3.25",
                "header:x-user-id",
                "x-canary",
                'models/good/rollouts/t1"',
                'shadow/3"',
                "12.5 %",
            ],
        ),
        ("rollouts", ['rollouts/t1"', "1 → 2", "rolled back", 'experiments/t1"', "1, 2", "not known"]),
        (
            "rollouts/t1",
            [
                "rolled back",
                "1 → 2 at 5 %",
                "fail",
                "6.25 of 5.298",
                "0.5 of 2.996",
                "321",
                "654",
                "T1",
                "ann",
                "roll back",
            ],
        ),
        ("experiments/t1", ["paused", "no arm is known", "50 %", "0.25", "0.1 to 0.4", "no rewards yet"]),
        ("shadow/3", ["8 of 10", "0.75", "Version 1", "Shadow 3", "[0.5, ", "…", "r2"]),
    ],
)
def test_a_page_reads_without_a_script(client: Client, path: str, parts: list[str]) -> None:
    answer = client.get(f"{MODEL}/{path}", {"accept": "text/html"})
    assert answer.status_code == 200
    for part in parts:
        assert part in answer.text
    assert HOSTILE not in answer.text
    assert ESCAPED in answer.text


def test_a_plain_route_shows_only_what_it_has(client: Client) -> None:
    plain = {**ROUTE, "sticky": None, "rules": [], "shadow": [], "trial": None}
    client.routes.routes["good"] = plain
    text = client.get(f"{MODEL}/traffic").text
    assert "each request is drawn anew" in text
    for part in ("<h2>Rules", "<h2>Shadows", "decides the traffic until"):
        assert part not in text


def test_a_best_arm_and_a_shadow_that_agrees_are_shown(client: Client) -> None:
    client.experiments.trials["t1"] = {**EXPERIMENT, "best": "2", "reason": "", "changes": []}
    assert "version 2 is the best" in client.get(f"{MODEL}/experiments/t1").text
    client.routes.shadows["good"] = {**SHADOW, "samples": []}
    assert "No disagreement was seen" in client.get(f"{MODEL}/shadow/3").text


@pytest.mark.parametrize("path", ["rollouts/none", "experiments/none"])
def test_what_there_is_not_is_an_error_page(client: Client, path: str) -> None:
    answer = client.get(f"{MODEL}/{path}", {"accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
