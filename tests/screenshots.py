"""Writes the pictures of the console in ``docs/images``: six views, from the traffic of the demo.

    make screenshots

The demo runs to the end of its story; then a browser opens each view.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, ViewportSize

from tests.browser import running_browser

FOLDER = Path(__file__).parents[1] / "docs" / "images"
SIZE: ViewportSize = {"width": 1200, "height": 760}
MOST_BYTES = 170_000
STORY_SECONDS = 300.0
SETTLE_MS = 2500
"""Time for a view to get the documents of its stream."""

ADDRESS = re.compile(r"Open (http://\S+)/console/ in a browser")
END = "Commands to try while the gateway runs"
MODEL = "/console/models/digits"
VIEWS = {
    "overview": "/console/models",
    "model": MODEL,
    "traffic": f"{MODEL}/traffic",
    "rollout": f"{MODEL}/rollouts",
    "monitor": f"{MODEL}/monitor",
    "timeline": "/console/timeline",
}


@contextmanager
def demo() -> Iterator[str]:
    """Run the demo to the end of its story, and yield the address of its ops port."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile("w+") as story:
        command = [sys.executable, "-m", "penstock", "demo"]
        environment = {**os.environ, "PENSTOCK_HOME": home}
        process = subprocess.Popen(command, stdout=story, env=environment, text=True)
        try:
            yield _wait(process, story.fileno())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _wait(process: "subprocess.Popen[str]", story: int) -> str:
    ends = time.monotonic() + STORY_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        text = os.pread(story, 1 << 20, 0).decode()
        if (found := ADDRESS.search(text)) and END in text:
            return found[1]
        time.sleep(0.2)
    raise SystemExit("the demo did not come to its end")


def take(page: Page, base: str, name: str, path: str) -> None:
    """Take the picture of a view; of the rollouts, that of the newest one."""
    page.goto(f"{base}{path}")
    page.wait_for_timeout(SETTLE_MS)
    if name == "rollout":
        page.locator("main tbody a").first.click()
        page.wait_for_timeout(SETTLE_MS)
    file = FOLDER / f"console-{name}.png"
    page.screenshot(path=str(file), animations="disabled")
    size = file.stat().st_size
    sys.stdout.write(f"{file.name}: {size / 1000:.0f} kB\n")
    if size > MOST_BYTES:
        raise SystemExit(f"{file.name} has more than {MOST_BYTES / 1000:.0f} kB")


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with demo() as base, running_browser() as browser:
        page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        for name, path in VIEWS.items():
            take(page, base, name, path)


if __name__ == "__main__":
    main()
