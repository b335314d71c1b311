"""Runs a load test: connects, sends, judges, and writes the reports."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import penstock
from penstock.cli.console import ExitCode, fail
from penstock.cli.loadtest.inputs import requests_of
from penstock.cli.loadtest.options import LoadTestOptions, LoadTestSettings, read_options
from penstock.cli.loadtest.output import Progress, find_unwritable, format_results, print_results, write_files
from penstock.cli.loadtest.target import LiveTarget, other_place, place_of
from penstock.loadtest.measurement import Measurement
from penstock.loadtest.report import LoadTestResults, LoadTestSetup, Outcome, TargetResult
from penstock.loadtest.runs import find_capacity, judge_all, run_once, run_pairs

INTERRUPTED = 130
EXITS: dict[Outcome, int] = {
    "pass": ExitCode.OK,
    "undecided": ExitCode.OK,
    "breach": ExitCode.REFUSED,
    "invalid": ExitCode.FAILURE,
    "interrupted": INTERRUPTED,
}


class StopSignal:
    """Whether the user wants the load test to stop; a second Ctrl-C ends the command at once."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.is_set

    def note(self, *_: Any) -> None:
        """Remember a signal."""
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM during the block; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(options: LoadTestOptions) -> int:
    """Run the load test and return the exit code.

    Raises:
        BadData: an option or the file of rows does not fit.
        CallFailed: the gateway cannot be reached, or refuses the first request.
        typer.Exit: a report cannot be written.
    """
    wanted, stop, progress = read_options(options), StopSignal(), Progress()
    if problem := find_unwritable(options.files):
        fail(problem)
    with stop.watching(), ExitStack() as stack:
        started = datetime.now(UTC)
        targets, inputs = _connect(options, wanted, stop, progress, stack)
        try:
            results = _measure(
                options, wanted, targets, _describe_setup(options, wanted, targets[0], started, inputs), progress
            )
        finally:
            progress.close()
        results = replace(results, interrupted=stop.is_set)
    problem = write_files(partial(format_results, results), options.files)  # first: stdout may be closed or full
    print_results(results)
    if problem:
        fail(problem)
    return EXITS[results.outcome]


def _connect(
    options: LoadTestOptions, wanted: LoadTestSettings, stop: StopSignal, progress: Progress, stack: ExitStack
) -> tuple[list[LiveTarget], str]:
    model, version = options.model_and_version
    places = [place_of(options.url, options.by_grpc, model, version)]
    places += [other_place(options.against, places[0])] if options.against else []
    with closing(places[0].open_client()) as client:
        inputs, requests = requests_of(options, client.metadata(model, version)["inputs"])
    targets = []
    for place in places:
        target = LiveTarget(
            place, requests, options.connections, options.timeout, wanted.arrivals, stop, progress.advance
        )
        stack.callback(target.close)
        targets.append(target)
    return targets, inputs


def _describe_setup(
    options: LoadTestOptions, wanted: LoadTestSettings, target: LiveTarget, started: datetime, inputs: str
) -> LoadTestSetup:
    ramp = wanted.plan.ramp
    return LoadTestSetup(
        penstock=penstock.__version__,
        started_at=started.isoformat(timespec="seconds"),
        model=options.model_and_version[0],
        transport="grpc" if options.by_grpc else "rest",
        arrivals=wanted.arrivals,
        seed=options.seed,
        connections=options.connections,
        timeout_seconds=options.timeout,
        warmup_seconds=options.warmup,
        inputs=inputs,
        request_bytes=target.request_bytes,
        rate={"start": ramp.start, "end": ramp.end, "ramp_seconds": ramp.seconds},
    )


def _measure(
    options: LoadTestOptions,
    wanted: LoadTestSettings,
    targets: list[LiveTarget],
    setup: LoadTestSetup,
    progress: Progress,
) -> LoadTestResults:
    plan, objectives = wanted.plan, wanted.objectives
    if options.find_capacity:
        search = find_capacity(targets[0].send, plan, objectives, options.budget, options.max_lag, progress.begin)
        verdicts = judge_all(objectives, search.measurement, {}) if search.capacity.rate is not None else []
        return LoadTestResults(setup, [_judge_result(targets[0], search.measurement, options)], verdicts, search=search)
    if len(targets) == 1:
        measured = run_once(targets[0].send, plan, progress.begin)
        return LoadTestResults(
            setup, [_judge_result(targets[0], measured, options)], judge_all(objectives, measured, {})
        )
    pairs = run_pairs(targets[0].send, targets[1].send, plan, progress.begin)
    results = [
        _judge_result(target, measured, options)
        for target, measured in zip(targets, (pairs.own, pairs.other), strict=True)
    ]
    return LoadTestResults(setup, results, judge_all(objectives, pairs.own, pairs.ratios), pairs.ratios)


def _judge_result(target: LiveTarget, measured: Measurement, options: LoadTestOptions) -> TargetResult:
    problem = measured.generator_problem(options.max_lag) if measured.requests else "no request was due in this time"
    place = target.place
    return TargetResult(place.label, str(place.address), measured, target.stages(), problem)
