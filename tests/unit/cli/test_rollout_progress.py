"""The lines of `rollout start --watch`: each change once it holds, numbers now and then."""

from typing import Any

import pytest

from penstock.cli.rollout_progress import Reporter


def look(
    weight: int, in_place: bool = True, needs: int = 300, state: str = "running", verdict: str = "undecided"
) -> Any:
    part = f"at {weight / 100:g} %" if state == "running" else state
    return {
        "state": state,
        "weight": weight,
        "in_place": in_place,
        "evidence": {"errors": {"verdict": verdict}},
        "progress": [part, f"errors needs about {needs}"],
    }


@pytest.mark.parametrize(
    ("looks", "lines"),
    [
        ([(0, look(500))], ["at 5 %; errors needs about 300"]),
        ([(0, look(500)), (1, look(500)), (60, look(500))], ["at 5 %; errors needs about 300"]),
        (
            [(0, look(500)), (1, look(500, needs=290)), (5, look(500, needs=200))],
            ["at 5 %; errors needs about 300", "at 5 %; errors needs about 200"],
        ),
        (
            [(0, look(500)), (1, look(500, verdict="pass"))],
            ["at 5 %; errors needs about 300"],  # the text is the same
        ),
        (
            [(0, look(500)), (1, look(5000, False)), (2, look(5000)), (3, look(5000))],
            [
                "at 5 %; errors needs about 300",
                "at 50 %; errors needs about 300",
                "weight is now 50 %",
            ],
        ),
        (
            [(0, look(500, False)), (1, look(500)), (2, look(0, state="rolled_back"))],
            ["at 5 %; errors needs about 300", "rolled_back; errors needs about 300"],
        ),
    ],
)
def test_progress_is_printed_as_lines(looks: list[tuple[float, Any]], lines: list[str]) -> None:
    reporter = Reporter()
    assert [line for now, item in looks for line in reporter.lines(item, now)] == lines


def test_a_step_is_printed_only_when_every_worker_has_it() -> None:
    reporter = Reporter()
    reporter.lines(look(500), 0.0)
    before = [line for now in range(1, 60) for line in reporter.lines(look(5000, in_place=False), float(now))]
    assert not [line for line in before if line.startswith("weight is now")]
    assert reporter.lines(look(5000), 60.0)[0] == "weight is now 50 %"
