"""Runs one request to score a file: finds and loads the versions, scores, and returns the summary."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.app.confinement import is_required
from penstock.core.errors import InvalidInput
from penstock.core.frames.terms import RowTerms
from penstock.core.texts import shorten
from penstock.engine.confinement.child import require_confinement
from penstock.engine.threads import read_cores
from penstock.monitor.pyarrow_extra import require_pyarrow
from penstock.monitor.table_files import format_of, has_texts
from penstock.scoring.binding import BatchBinder
from penstock.scoring.confined import run_confined_job
from penstock.scoring.drift import check_reference
from penstock.scoring.gateway import Connect, GatewayRunner
from penstock.scoring.job import ScoreJob
from penstock.scoring.local import read_settings
from penstock.scoring.results import JoinedColumns
from penstock.scoring.rows import BatchScorer
from penstock.scoring.run import OnProgress, ScoreTask, score_file
from penstock.scoring.summary import RunSummary
from penstock.scoring.versions import VersionFinder

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
    features: tuple[str, ...] = ()
    explain: int = 0


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
    contents = [finder.place(finder.find(request.model, name)) for name in _list_selectors(request)]
    if request.monitor or request.explain:
        check_reference(contents[0].reference, contents[0].title)
    if request.features:
        contents = [replace(content, features=request.features) for content in contents]
    task = _task_of(request, (content.digest for content in contents))
    return run_confined_job(ScoreJob(task, contents, request.monitor), report)


def run_by_gateway(request: ScoreRequest, connect: Connect, address: str, report: OnProgress) -> Document:
    """Score a file by a gateway, whose connections ``connect`` opens, and return the summary.

    Raises:
        Fault: the input does not fit, or the gateway refuses a request or does not answer.
        OSError: a file cannot be read or written.
    """
    _check(request)
    if request.monitor or request.explain:
        option = "--monitor" if request.monitor else "--explain"
        raise InvalidInput(f"{option} needs the registry, which has the reference; omit --gateway, or {option}")
    with ExitStack() as stack:
        runners = [_open_runner(connect, request.model, name, stack) for name in _list_selectors(request)]
        summary = _score_by(runners, request, address, report)
    return {"model": request.model, "version": runners[0].version, "gateway": address, **summary.document()}


def _open_runner(connect: Connect, model: str, name: str, stack: ExitStack) -> GatewayRunner:
    runner = GatewayRunner(connect, model, name)
    stack.callback(runner.close)
    return runner


def _score_by(runners: Sequence[GatewayRunner], request: ScoreRequest, address: str, report: OnProgress) -> RunSummary:
    first, *others = runners
    against = others[0] if others else None
    terms = RowTerms(request.features or first.terms.names, first.terms.defaults)
    bind = BatchBinder(first.signature, terms, has_texts(request.source))
    summary = RunSummary(against=against.version if against else "")
    digests = [f"{address} {runner.model}:{runner.version}" for runner in runners]
    score_file(_task_of(request, digests), bind, BatchScorer(bind, first, against), first.signature, summary, report)
    return summary


def _list_selectors(request: ScoreRequest) -> list[str]:
    return [request.version, *([request.against] if request.against else [])]


def _check(request: ScoreRequest) -> None:
    require_pyarrow()
    for path in (request.source, request.target):
        format_of(path)
    paths = [path.resolve() for path in (request.source, request.target, request.errors) if path is not None]
    request.source.stat()
    if len(set(paths)) < len(paths):
        raise InvalidInput("the input, the result and the errors must be different files")
    for path in paths:
        _check_place(path)


def _check_place(path: Path) -> None:
    """Check that a path can be a file: the confined process may not even see why it cannot."""
    if path.is_dir():
        raise InvalidInput(f"'{shorten(path.name)}' is a folder; name a file")
    if not path.parent.is_dir():
        raise InvalidInput(f"the folder of '{shorten(path.name)}' does not exist; create it first")


def _task_of(request: ScoreRequest, digests: Iterable[str]) -> ScoreTask:
    return ScoreTask(
        request.source.absolute(),
        request.target.absolute(),
        JoinedColumns.parse(request.join, request.id_column),
        request.label_column,
        None if request.errors is None else request.errors.absolute(),
        request.resume,
        request.workers or read_cores(),
        request.batch_rows,
        tuple(digests),
        request.explain,
    )
