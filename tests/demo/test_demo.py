"""The demo as people run it: real training, a gateway of its own, real traffic."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from penstock.engine.scratch import is_scratch
from tests import forks
from tests.harness import PATIENCE_S

LAST_LINE = "Serving until Ctrl-C."
TRAFFIC_S = 1.0


def environment(folder: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**kept, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


AS_INSTALLED = (sys.executable, "-m", "penstock")


def in_fork(folder: Path, program: str) -> tuple[str, str]:
    """The command that runs a program in a fork that has imported scikit-learn; its gateway is no fork."""
    file = folder / "program.py"
    file.write_text(
        f"import tempfile\n\ntempfile.tempdir = None  # which the fork has of another environment\n{program}"
    )
    return str(forks.caller_folder() / "python"), str(file)


def short_traffic() -> str:
    """A program that runs the demo with less of the traffic that only shows figures, and prints commands of forks.

    The nightly test runs the demo as it is.
    """
    return f"""
import sys
from penstock import cli
from penstock.cli.demo import story

assert story.TRAFFIC_SECONDS > {TRAFFIC_S}
story.TRAFFIC_SECONDS = {TRAFFIC_S}
sys.argv[0] = {str(forks.caller_folder() / "penstock")!r}
cli.main()
"""


@contextmanager
def started(folder: Path, *program: str) -> Iterator[subprocess.Popen[str]]:
    command = [*program, "demo"]
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(folder))
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE_S)


def story_of(process: subprocess.Popen[str], last: str) -> str:
    """What the demo prints up to a line."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip() == last:
            return "".join(lines)
    raise AssertionError(f"the demo ended with {process.wait()}:\n{''.join(lines)}")


def leftovers(folder: Path) -> list[str]:
    """Folders of the demo, and processes that were started for it."""
    folders = [str(path) for path in folder.iterdir() if is_scratch(path.name)]
    return folders + [str(path.parent) for path in Path("/proc").glob("[0-9]*/environ") if str(folder) in text_of(path)]


def text_of(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(errors="replace")
    return ""


def test_the_demo_runs_its_whole_story_and_serves_with_commands_that_work_until_ctrl_c(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for port in (8000, 8001, 8002):  # taken, here or by somebody else: the demo has to find others
            held = stack.enter_context(socket.socket())
            if held.connect_ex(("127.0.0.1", port)):
                held.close()
                held = stack.enter_context(socket.socket())
                held.bind(("127.0.0.1", port))
                held.listen()
        process = stack.enter_context(started(tmp_path, *in_fork(tmp_path, short_traffic())))
        story = story_of(process, LAST_LINE)
        assert leftovers(tmp_path)
        check_story(story)
        try_commands(story, tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0, (tmp_path / "stderr").read_text()
    assert leftovers(tmp_path) == []
    assert "is taken; using a free one instead" in (tmp_path / "stderr").read_text()


def check_story(story: str) -> None:
    """Every step of the story has gone as it is told."""
    accuracies = re.findall(r"^version (\d) by (\w+): (\S+)% of 540 held-out digits right$", story, re.MULTILINE)
    assert [found[:2] for found in accuracies] == [("1", "rest"), ("1", "grpc"), ("2", "rest"), ("2", "grpc")]
    assert all(float(share) > 93 for _, _, share in accuracies)
    assert story.count("equal") == 6
    assert "DIFFERENT" not in story
    assert re.search(
        r"^promoted: errors pass after \d+, latency pass after \d+, outputs pass after \d+", story, re.MULTILINE
    )
    assert re.search(r"^rolled_back: .*outputs fail after \d+ canary requests$", story, re.MULTILINE)
    steps = (
        r"drift: row",
        r"rule digits-drifted requests retraining: e-SR \d+ .at least 1., new labels \d+ .at least 1200.",
        r"version 4 on \d+ held-out rows: 9\d\.\d% against [3-5]\d\.\d%; it may be rolled out",
        r"rollout of version 4: promoted",
    )
    places = [re.search(rf"^ *[\d.]+ s  {step}", story, re.MULTILINE) for step in steps]
    assert all(places), story
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)
    addresses = re.findall(r"http://[\d.:]+/console/\S*", story)
    assert [address.partition("/console/")[2] for address in addresses] == ["", "models/digits"]
    assert "\x1b" not in story  # no colour where nobody looks


def try_commands(story: str, folder: Path) -> None:
    """The commands at the end of the story work while the gateway runs."""
    commands = re.findall(r"^  (.+)$", story.partition("Commands to try while the gateway runs")[2], re.MULTILINE)
    assert len(commands) == 12
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=environment(folder),
            check=False,
        )
        assert done.returncode == 0, (command, done)
        assert done.stdout.strip(), command
        assert '"error"' not in done.stdout, (command, done)


def once(folder: Path, *program: str) -> subprocess.CompletedProcess[str]:
    """Run a demo that ends by itself."""
    command = [*program, "demo", "--once"]
    seconds = 3 * PATIENCE_S  # a whole story
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=environment(folder), check=False
    )


LONG_STEPS = ("load", "roll_out_the_good", "roll_out_the_bad", "close_the_loop")
"""Their end is not the end of the demo, and the test of the whole story runs them."""

SHORT = f"""
from penstock import cli
from penstock.cli.demo.story import DemoStory
for step in {LONG_STEPS}:
    assert callable(getattr(DemoStory, step))
    setattr(DemoStory, step, lambda *_: None)
cli.main()
"""


def test_once_ends_by_itself(tmp_path: Path) -> None:
    done = once(tmp_path, *in_fork(tmp_path, SHORT))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("The gateway has drained and stopped.\n")
    assert LAST_LINE not in done.stdout
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_the_demo_with_once_runs_its_whole_story_and_ends_by_itself(tmp_path: Path) -> None:
    done = once(tmp_path, *AS_INSTALLED)
    assert done.returncode == 0, done.stdout + done.stderr
    check_story(done.stdout)
    assert leftovers(tmp_path) == []


def test_an_interrupt_in_the_middle_stops_the_gateway_too(tmp_path: Path) -> None:
    with started(tmp_path, *AS_INSTALLED) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Traffic for"):
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 1
    assert leftovers(tmp_path) == []
    assert "stopped before its end" in (tmp_path / "stderr").read_text()
