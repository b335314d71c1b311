"""The shell steps of the examples for CI systems run as they stand, and end as the objectives say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests import zoo
from tests.harness import LIMITS, PATIENCE_S

EXAMPLES = Path(__file__).parents[2] / "deploy" / "ci"
INSTALL = "python -m pip install penstock"
SHELL = {
    "github": ["bash", "-e", "-o", "pipefail"],
    "gitlab": ["bash", "-e", "-o", "pipefail"],
    "jenkins": ["sh", "-xe"],
}
"""How each system runs a step, by its documentation."""

Steps = tuple[list[str], list[str], dict[str, str]]
"""The scripts that lead to the result, those that always follow, and the variables."""


def github() -> Steps:
    workflow: Any = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    steps = [step for step in workflow["jobs"]["loadtest"]["steps"] if "run" in step]
    return (
        [step["run"] for step in steps if "if" not in step],
        [step["run"] for step in steps if step.get("if") == "always()"],
        workflow["env"],
    )


def gitlab() -> Steps:
    job: Any = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["loadtest"]
    return [*job["before_script"], "\n".join(job["script"])], ["\n".join(job["after_script"])], job["variables"]


def jenkins() -> Steps:
    pipeline = (EXAMPLES / "Jenkinsfile").read_text()
    before, _, after = pipeline.partition("post {")
    scripts = [
        [dedent(script).strip() for script in re.findall(r"'''\n(.*?)'''", part, re.DOTALL)] for part in (before, after)
    ]
    return scripts[0], scripts[1], dict(re.findall(r"^ +([A-Z_]+) = '(.*?)'", pipeline, re.MULTILINE))


SYSTEMS = {"github": github, "gitlab": gitlab, "jenkins": jenkins}


def execute(system: str, folder: Path, **overrides: str) -> int:
    """Run the steps in a folder, and return how the first that fails ends; those that always follow succeed."""
    steps, always, variables = SYSTEMS[system]()
    assert steps.pop(0).strip() == INSTALL  # the suite tests what is installed already
    kept = {key: text for key, text in os.environ.items() if not key.startswith("PENSTOCK_")}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    env = {**kept, **LIMITS, **variables, **overrides, "PATH": path, "PENSTOCK_HOME": str(folder / "home")}
    code = 0
    try:
        for step in steps:
            code = code or run(system, step, folder, env)
    finally:
        ends = [run(system, step, folder, env) for step in always]
    assert ends == [0] * len(always)
    return code


def run(system: str, script: str, folder: Path, env: dict[str, str]) -> int:
    command = [*SHELL[system], "-c", script]
    with (folder / "log").open("ab") as log:
        return subprocess.run(
            command,
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=False,
        ).returncode


@pytest.mark.parametrize(
    ("system", "latency", "code"),
    [("github", "p99<60s", 0), ("gitlab", "p99<60s", 0), ("jenkins", "p50<0.001ms", 4)],
)
def test_the_steps_of_an_example(system: str, latency: str, code: int, tmp_path: Path) -> None:
    zoo.place(tmp_path / "models", "score", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    options = "--max-lag 100000 --warmup 0.1 --connections 4"
    load = {"LOAD_RATE": "50", "LOAD_SECONDS": "1", "LOAD_LATENCY": latency, "LOAD_OPTIONS": options}
    assert execute(system, tmp_path, **load) == code, (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "loadtest.json").read_text())["outcome"] == ("breach" if code else "pass")
    assert len(list(ElementTree.parse(tmp_path / "loadtest.xml").iter("failure"))) == (code == 4)
    assert "<svg" in (tmp_path / "loadtest.html").read_text()


def test_the_examples_state_the_same_defaults() -> None:
    defaults = [variables for _, _, variables in (system() for system in SYSTEMS.values())]
    assert defaults[0] == defaults[1] == defaults[2]
    assert {"MODELS", "MODEL", "LOAD_RATE", "LOAD_SECONDS", "LOAD_LATENCY", "LOAD_OPTIONS"} <= set(defaults[0])


def test_the_example_of_a_replay_uses_options_that_exist() -> None:
    workflow: Any = yaml.safe_load((EXAMPLES / "replay-github-actions.yml").read_text())
    [script] = [step["run"] for step in workflow["jobs"]["replay"]["steps"] if step.get("name") == "Replay"]
    reference = (EXAMPLES.parents[1] / "docs/reference/cli.md").read_text()
    verb = reference.partition("### penstock replay\n")[2].partition("\n### ")[0]
    options = re.findall(r"(--[a-z-]+)", script)
    assert len(options) > 5
    assert all(f"`{option}" in verb for option in options)
