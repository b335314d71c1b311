"""Runs a replay: finds the capture, connects, sends, judges, and writes the reports."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import penstock
from penstock.cli.client import CallFailed, Document
from penstock.cli.console import ExitCode, fail
from penstock.cli.credentials import read_authorization
from penstock.cli.loadtest.command import INTERRUPTED, StopSignal
from penstock.cli.loadtest.output import find_unwritable, write_files
from penstock.cli.loadtest.target import TargetAddress, endpoint_of
from penstock.cli.replay.output import ReplayProgress, format_results, print_results
from penstock.cli.replay.sources import check_files, parts_of, target_of
from penstock.cli.requests import BadData
from penstock.cli.tls import explain
from penstock.loadtest.generator import EACH_ONCE, Generator, NoConnection
from penstock.loadtest.http1_wire import Http1Wire
from penstock.loadtest.http2_wire import GRPC_PATH, Http2Wire, grpc_head
from penstock.loadtest.wire import Endpoint, Wire
from penstock.monitor.capture_parts import CapturePart, ReadCounts, merge_parts
from penstock.replay.findings import Findings
from penstock.replay.pace import Pace, parse_speed
from penstock.replay.report import Outcome, ReplayResult, ReplaySetup
from penstock.replay.requests import MARKS, Codec, GrpcCodec, RestCodec
from penstock.replay.selection import select_requests
from penstock.replay.window import ReplayWindow

EXITS: dict[Outcome, int] = {
    "pass": ExitCode.OK,
    "breach": ExitCode.REFUSED,
    "invalid": ExitCode.FAILURE,
    "interrupted": INTERRUPTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """The command line; ``files`` are the places of the reports by their form."""

    captures: tuple[str, ...]
    to: str
    model: str | None
    speed: str
    compares: bool
    max_differences: str
    by_grpc: bool
    connections: int
    timeout: float
    files: Mapping[str, Path | None]
    registry: str | None


def run(options: ReplayOptions) -> int:
    """Run the replay and return the exit code.

    Raises:
        BadData: an option or a capture does not fit.
        CallFailed: the gateway cannot be reached, or does not have the model.
        typer.Exit: a report cannot be written.
    """
    setup_of = _read_setup(options)
    check_files(options.captures)
    if problem := find_unwritable(options.files):
        fail(problem)
    place = target_of(options.to, options.model, options.captures, options.by_grpc)
    metadata = _read_metadata(place)
    parts = parts_of(options.captures, place.model, metadata, options.registry)
    result = _replay(setup_of(place), place, metadata, parts)
    problem = write_files(partial(format_results, result), options.files)  # first: stdout may be closed or full
    print_results(result)
    if problem:
        fail(problem)
    return EXITS[result.outcome]


def _read_setup(options: ReplayOptions) -> Callable[[TargetAddress], ReplaySetup]:
    """Return what makes the facts of the report for a place; raises ``BadData`` for a bad option."""
    try:
        speed, limit = parse_speed(options.speed), parse_share(options.max_differences)
    except ValueError as fault:
        raise BadData(str(fault)) from None
    if limit and not options.compares:
        raise BadData("--max-differences limits what --compare finds; give both")

    def setup_of(place: TargetAddress) -> ReplaySetup:
        return ReplaySetup(
            penstock=penstock.__version__,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            captures=options.captures,
            target=place.label,
            address=str(place.address),
            transport="grpc" if options.by_grpc else "rest",
            speed=speed,
            connections=options.connections,
            timeout_seconds=options.timeout,
            max_differences=limit if options.compares else None,
        )

    return setup_of


def parse_share(text: str) -> float:
    """Return the share that ``0.001`` or ``0.1%`` states; raises ``ValueError``."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"--max-differences: expected a share from 0 to 1, or in percent, such as 0.1% (got '{text}')")
    return share


def _read_metadata(place: TargetAddress) -> Document:
    with closing(place.open_client()) as client:
        return client.metadata(place.model, place.version)


def _replay(setup: ReplaySetup, place: TargetAddress, metadata: Document, parts: list[CapturePart]) -> ReplayResult:
    compares = setup.max_differences is not None
    try:
        endpoint = endpoint_of(place)
    except OSError as problem:
        raise CallFailed(f"no connection to {place.address}: {explain(problem)}", ExitCode.UNAVAILABLE) from None
    codec = _choose_codec(place, endpoint)
    read, findings, stop = ReadCounts(), Findings(codec, compares, place.by_grpc), StopSignal()
    records = select_requests(merge_parts(parts, read), [spec["name"] for spec in metadata["inputs"]], findings.skipped)
    window = ReplayWindow(records, Pace(setup.speed), 1 + compares, codec.encode, findings.note)
    progress = ReplayProgress(read)
    with stop.watching():
        try:
            _send(setup, place, endpoint, window, stop, progress)
        finally:
            progress.close()
    return ReplayResult(setup, findings, read, stop.is_set)


def _choose_codec(place: TargetAddress, endpoint: Endpoint) -> Codec:
    if place.by_grpc:
        return GrpcCodec(place.model, place.version)
    return RestCodec(endpoint, place.model, place.version, _read_credential())


def _read_credential() -> dict[str, str]:
    token = read_authorization()
    return {} if token is None else {"authorization": token}


def _send(
    setup: ReplaySetup,
    place: TargetAddress,
    endpoint: Endpoint,
    window: ReplayWindow,
    stop: StopSignal,
    progress: ReplayProgress,
) -> None:
    open_wire = _choose_wires(place, endpoint, window)
    try:
        generator = Generator(open_wire, setup.connections, EACH_ONCE, setup.timeout_seconds, stop, progress.advance)
    except (NoConnection, OSError) as problem:
        text = explain(problem) if isinstance(problem, OSError) else str(problem)
        raise CallFailed(f"no connection to {place.address}: {text}", ExitCode.UNAVAILABLE) from None
    with closing(generator):
        generator.run_window(window)


def _choose_wires(place: TargetAddress, endpoint: Endpoint, window: ReplayWindow) -> Callable[[], Wire]:
    head = grpc_head(endpoint, GRPC_PATH, {**_read_credential(), **MARKS})
    blocks: dict[bytes, int] = {}

    def open_wire() -> Wire:
        wire = Http2Wire(endpoint, head, window, blocks) if place.by_grpc else Http1Wire(endpoint, window)
        wire.keeps_answers = True
        return wire

    return open_wire
