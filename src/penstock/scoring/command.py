"""Runs one request to score a file: finds and loads the versions, scores, and returns the summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.app.confinement import is_required
from penstock.core.errors import InvalidInput
from penstock.engine.confinement.child import require_confinement
from penstock.engine.threads import read_cores
from penstock.monitor.table_files import format_of, require_arrow
from penstock.scoring.confined import run_confined_job
from penstock.scoring.drift import check_reference
from penstock.scoring.job import ScoreJob
from penstock.scoring.local import read_settings
from penstock.scoring.results import JoinedColumns
from penstock.scoring.run import OnProgress, ScoreTask
from penstock.scoring.versions import VersionContent, VersionFinder

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What a user asks for; see the options of ``penstock score``."""

    model: str
    version: str
    source: Path
    target: Path
    join: str = ""
    id_column: str = ""
    label_column: str = ""
    against: str = ""
    monitor: bool = False
    errors: Path | None = None
    resume: bool = False
    workers: int = 0
    batch_rows: int = 0
    registry: str = ""


def run_request(request: ScoreRequest, report: OnProgress) -> Document:
    """Score a file by versions of the registry, in a confined process of its own, and return the summary; ``monitor``
    in it is the drift report.

    Raises:
        Fault: the input does not fit, or a version cannot be found or loaded.
        OSError: a file cannot be read or written.
    """
    _check(request)
    settings = read_settings(request.registry)
    require_confinement(is_required(settings))
    finder = VersionFinder(settings)
    contents = [finder.place(finder.find(request.model, name)) for name in _selectors(request)]
    if request.monitor:
        check_reference(contents[0].reference, contents[0].title)
    return run_confined_job(ScoreJob(_task_of(request, contents), contents, request.monitor), report)


def _selectors(request: ScoreRequest) -> list[str]:
    return [request.version, *([request.against] if request.against else [])]


def _check(request: ScoreRequest) -> None:
    require_arrow()
    for path in (request.source, request.target):
        format_of(path)
    paths = [path.resolve() for path in (request.source, request.target, request.errors) if path is not None]
    request.source.stat()
    if len(set(paths)) < len(paths):
        raise InvalidInput("the input, the result and the errors must be different files")


def _task_of(request: ScoreRequest, contents: Sequence[VersionContent]) -> ScoreTask:
    return ScoreTask(
        request.source.absolute(),
        request.target.absolute(),
        JoinedColumns.parse(request.join, request.id_column),
        request.label_column,
        None if request.errors is None else request.errors.absolute(),
        request.resume,
        request.workers or read_cores(),
        request.batch_rows,
        tuple(content.digest for content in contents),
    )
