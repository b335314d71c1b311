"""One job of scoring by loaded versions: what the confined process does, and how it is stated as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.monitor.table_files import has_texts
from penstock.scoring.drift import BatchDrift
from penstock.scoring.explaining import RowExplainer
from penstock.scoring.local import LocalVersion, open_local
from penstock.scoring.results import JoinedColumns
from penstock.scoring.rows import BatchScorer
from penstock.scoring.run import OnProgress, ScoreTask, score_file
from penstock.scoring.summary import RunSummary
from penstock.scoring.versions import VersionContent, decode_content, encode_content

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """A file to score, by the first of the versions, and a second to compare it with; ``monitor`` asks for the drift
    report."""

    task: ScoreTask
    contents: Sequence[VersionContent]
    monitor: bool = False


def run_job(job: ScoreJob, report: OnProgress) -> Document:
    """Load the versions and score the file; return the summary, with the drift report as ``monitor``.

    Raises:
        Fault: the input does not fit, or a version cannot be loaded.
        OSError: a file cannot be read or written.
    """
    version, *others = [open_local(content) for content in job.contents]
    against = others[0] if others else None
    bind = version.binder(has_texts(job.task.source))
    summary = RunSummary(_drift_of(version) if job.monitor else None, against.content.version if against else "")
    explainer = RowExplainer(version.content, version.runner, job.task.explain) if job.task.explain else None
    explain = explainer.explain if explainer else None
    scorer = BatchScorer(bind, version.runner, against.runner if against else None, explain)
    score_file(job.task, bind, scorer, version.runner.signature, summary, report)
    content, drift = version.content, summary.drift()
    identity = {"model": content.model, "version": content.version, "digest": content.digest}
    parts = {"monitor": drift, "explanations": explainer and explainer.method}
    return {**identity, **summary.document(), **{name: part for name, part in parts.items() if part}}


def _drift_of(version: LocalVersion) -> BatchDrift:
    content = version.content
    return BatchDrift(content.reference, version.runner.signature, content.features, content.title)


def encode_job(job: ScoreJob) -> Document:
    """Return a job as JSON values."""
    task = job.task
    paths = {"source": str(task.source), "target": str(task.target), "errors": str(task.errors) if task.errors else ""}
    contents = [encode_content(content) for content in job.contents]
    return {"task": {**asdict(task), **paths}, "contents": contents, "monitor": job.monitor}


def decode_job(values: Mapping[str, Any]) -> ScoreJob:
    """Return the job in JSON values."""
    task = values["task"]
    joined = task["joined"]
    found = ScoreTask(
        Path(task["source"]),
        Path(task["target"]),
        JoinedColumns(tuple(joined["names"]), joined["is_all"], joined["key"]),
        task["label"],
        Path(task["errors"]) if task["errors"] else None,
        task["resume"],
        task["threads"],
        task["batch_rows"],
        tuple(task["digests"]),
        task["explain"],
    )
    return ScoreJob(found, [decode_content(item) for item in values["contents"]], values["monitor"])
