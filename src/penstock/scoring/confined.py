"""Runs a scoring job in a confined process: it reads the version and the input, and writes beside the result alone."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from penstock.core.errors import KINDS, Fault, Internal, NotReady
from penstock.engine.confinement.child import UNSAFE, confined_command, start_confined
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.scratch import scratch_folder, temporary_folder
from penstock.scoring.job import ScoreJob, encode_job
from penstock.scoring.run import OnProgress

MODULE: Final = "penstock.scoring.program"
FILE_BYTES: Final = 1 << 50
"""Maximum size of a result: as large as a file system takes."""

MOST_ERRORS: Final = 4096

Document = dict[str, Any]


def run_confined_job(job: ScoreJob, report: OnProgress) -> Document:
    """Run a job in a process of its own; return its summary.

    Raises:
        Fault: what the process reports.
        NotReady: a layer of confinement is missing that ``require_confinement`` asks for.
        OSError: a file cannot be read or written, or no process can be started.
    """
    with scratch_folder(temporary_folder(), "score") as folder:
        plan = folder / "plan.json"
        plan.write_text(json.dumps(encode_job(job)))
        command = confined_command(MODULE, [str(plan)], _paths_of(job, plan), FILE_BYTES)
        with start_confined(command) as process:
            return _read_answer(process, report)


def _paths_of(job: ScoreJob, plan: Path) -> AllowedPaths:
    task = job.task
    contents = [Path(path) for content in job.contents for path in (content.root, content.folder)]
    targets = [task.target.parent, *([] if task.errors is None else [task.errors.parent])]
    return AllowedPaths((task.source, plan, *contents), tuple(targets))


def _read_answer(process: "subprocess.Popen[bytes]", report: OnProgress) -> Document:
    """Return the summary that a process writes, and report its progress."""
    for line in process.stdout or ():
        message = json.loads(line)
        if "progress" in message:
            report(*message["progress"])
        elif "summary" in message:
            summary: Document = message["summary"]
            return summary
        else:
            raise fault_of(message)
    errors = (process.stderr.read() if process.stderr else b"")[-MOST_ERRORS:].decode(errors="replace")
    code = process.wait()
    if code == UNSAFE:
        raise NotReady(errors.strip().removeprefix("penstock: "))
    raise Internal(f"the process that scores ended with code {code}; is there enough memory?", errors)


def fault_of(message: Document) -> Fault:
    """Return the fault that a process reports."""
    kinds = {kind.kind: kind for kind in KINDS}
    return kinds.get(message["kind"], Internal)(message["fault"])
