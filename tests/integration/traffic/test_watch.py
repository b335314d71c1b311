"""`rollout start --watch` over a real gateway: says what happens next, and that a step has begun when it has."""

import subprocess
from pathlib import Path

from tests import harness
from tests.integration.traffic.drive import GOOD, SAME, models, promote_champion, traffic


def test_watching_says_what_happens_next_and_when_a_step_begins(tmp_path: Path) -> None:
    options = ("--workers", "1")
    with (
        harness.running(models(tmp_path / "models", GOOD, SAME), tmp_path, *options) as server,
        traffic(server, threads=1),
    ):
        promote_champion(server, GOOD)
        asked = ["rollout", "start", "m", "--to", SAME, "--guard", "errors:0.05", "--min-step-seconds", "3"]
        command = [*harness.COMMAND, *asked, "--steps", "3000,5000,10000", "--watch", "--url", server.ops]
        lines, splits = [], []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=harness.environment(tmp_path)) as process:
            assert process.stdout is not None
            for line in process.stdout:  # what the gateway says at the moment of each line
                lines.append(line.strip())
                splits.append(server.admin("GET", "/admin/v1/models/m/route").json()["split"])
        assert process.returncode == 0
    begun = {line: split for line, split in zip(lines, splits, strict=True) if line.startswith("weight is now")}
    assert list(begun) == ["weight is now 50 %", "weight is now 95 %"]
    assert begun["weight is now 50 %"][SAME] >= 5000
    assert begun["weight is now 95 %"][SAME] >= 9500
    assert any("errors: no sign of harm" in line and "next 50 %, waits for" in line for line in lines)
    assert any(line.startswith("at 50 %; ") for line in lines)
    assert all("harm in errors rolls it back at once" in line for line in lines if line.startswith("at "))
    assert lines[-1] == "promoted: every guard passes at the last step"
