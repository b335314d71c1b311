"""How much the control process of a gateway slows the worker that shares its core, and how long its bursts are.

Both run on one core. The worker gets half of its peak at random moments, in turn while the control process works, with
`/metrics` scraped beside, and while it is stopped (SIGSTOP), which a worker outlives. Pinning the control process to
another core would not do: on two cores, that one is the client's. A burst is the time for which a thread of the control
process has the core until it gives it back, read from the kernel's records of the thread (schedstat).
"""

import argparse
import http.client
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests import h2load
from loadtests.codecs import JSON, ReferenceCalls
from loadtests.graphs import find_repository
from loadtests.h2load import closed_loop
from loadtests.models import MODELS, BenchModel
from loadtests.neighbours import send_beside
from loadtests.openloop import OpenWindow, open_loop
from loadtests.processes import Server, list_tree, penstock, pin_children, run_server, split_cores

MAY_SLOW = 1.05
"""How much longer p99.9 may be with the control process."""

MAY_BURST_MS = 1.0
SCRAPE_S = 15.0
"""Prometheus' usual interval."""

WINDOW_S = 15.0
ROUNDS = 5

_CONNECTIONS = 32
_WARM_UP_S, _PEAK_S, _SETTLE_S = 1.0, 2.0, 2.0
_START_S, _BESIDE_S = 3.0, 2.0
"""Seconds for the start of the gateway, and those of a window beside its load, as seen on two cores."""

_WIDTH = 120
_SAMPLE_S = 0.0002


@dataclass(frozen=True, slots=True)
class Sample:
    """What the kernel has recorded of a thread: nanoseconds on a processor, and how often it was given one."""

    ran_ns: int
    slices: int


def bursts_ms(samples: Sequence[Sample]) -> list[float]:
    """The lengths of a thread's bursts; one that had begun before the first sample is left out.

    Where several passed between two samples they count as a single one, so that none is longer than the longest here.
    """
    ended = [sample for sample, after in pairwise(samples) if after.slices != sample.slices] + list(samples[-1:])
    return [(after.ran_ns - before.ran_ns) / 1e6 for before, after in pairwise(ended) if after.ran_ns > before.ran_ns]


@dataclass
class ThreadSampler:
    """Samples of all threads of some processes, by thread; only those that differ from the one before."""

    pids: Sequence[int]
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Sample until stopped; threads that start meanwhile are found within a second."""
        while not self._stop.is_set():
            with ExitStack() as stack:
                files = {path: stack.enter_context(path.open("rb", buffering=0)) for path in self._threads()}
                until = time.monotonic() + 1
                while time.monotonic() < until and not self._stop.wait(_SAMPLE_S):
                    for path, file in files.items():
                        self._note(int(path.parent.name), file.fileno())

    def _threads(self) -> list[Path]:
        return [path for pid in self.pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]

    def _note(self, thread: int, number: int) -> None:
        try:
            ran, _, slices = map(int, os.pread(number, 100, 0).split())
        except OSError:  # it has ended
            return
        samples, sample = self.samples.setdefault(thread, []), Sample(ran, slices)
        if not samples or samples[-1] != sample:
            samples.append(sample)

    def stop(self) -> None:
        """End ``run``."""
        self._stop.set()


def waited_ns(pid: int) -> int:
    """Nanoseconds for which the first thread of a process was ready to run, and another one had the core."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1])


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A window, and the microseconds for which the worker waited for its core, for each answer."""

    window: OpenWindow
    waited_us: float


class Gateway:
    """A gateway with one worker, on one core with its control process."""

    def __init__(self, server: Server, model: BenchModel) -> None:
        self._server, self._model, self._cores = server, model, split_cores()[1]
        self._call, self._address = JSON.write(model, model.rows(1)), server.addresses["http"]
        ReferenceCalls(model).check(JSON, self._address)
        (self.worker,) = server.workers
        self.control = [pid for pid in list_tree(server.pid) if pid != self.worker]

    def peak(self, seconds: float) -> float:
        """Requests a second that it answers at most."""
        return closed_loop(
            JSON,
            self._call,
            self._address,
            connections=_CONNECTIONS,
            seconds=seconds,
            cores=self._cores,
            answer_bytes=0,
        ).rate

    def load(self, rate: float, seconds: float) -> LoadedWindow:
        """Send at that rate."""
        before = waited_ns(self.worker)
        window = open_loop(JSON, self._call, self._address, rate=rate, seconds=seconds, cores=self._cores)
        return LoadedWindow(window, (waited_ns(self.worker) - before) / 1000 / max(window.done, 1))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Inside, the control process stands still."""
        for pid in self.control:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self.control:
                os.kill(pid, signal.SIGCONT)
            time.sleep(_SETTLE_S)

    @contextmanager
    def scraped(self) -> Iterator[None]:
        """Inside, its metrics are read as Prometheus would."""
        over = threading.Event()
        thread = threading.Thread(target=self._scrape, args=(over,))
        with pin_children(self._cores):  # a thread begins on the cores of the one that starts it
            thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _scrape(self, over: threading.Event) -> None:
        connection = http.client.HTTPConnection(self._server.addresses["ops"], timeout=30)
        while True:
            connection.request("GET", "/metrics")
            connection.getresponse().read()
            if over.wait(SCRAPE_S):
                connection.close()
                return

    def bursts(self, seconds: float) -> list[float]:
        """The bursts of the control process in milliseconds, sorted, beside scrapes and few requests."""
        watch = ThreadSampler(self.control)
        thread = threading.Thread(target=watch.run)
        with pin_children(self._cores):
            thread.start()
        with send_beside(self._model, self._server.addresses, self._cores), self.scraped():
            time.sleep(seconds)
        watch.stop()
        thread.join()
        return sorted(burst for samples in watch.samples.values() for burst in bursts_ms(samples))


@dataclass(frozen=True, slots=True)
class Round:
    """The same load with the control process beside, and without."""

    beside: LoadedWindow
    without: LoadedWindow

    @property
    def ratio(self) -> float:
        """How much longer p99.9 is beside it."""
        return self.beside.window.latencies.p999 / self.without.window.latencies.p999


def measure(gateway: Gateway, rate: float, seconds: float, number: int) -> Round:
    """Measure one round; every second one begins with the control process stopped."""
    windows: dict[bool, LoadedWindow] = {}
    for beside in (True, False) if number % 2 else (False, True):
        with gateway.scraped() if beside else gateway.stopped():
            windows[beside] = gateway.load(rate, seconds)
    return Round(windows[True], windows[False])


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured: the rate in requests a second, the rounds, and the bursts in milliseconds, sorted."""

    rate: float
    rounds: list[Round]
    bursts: list[float]


def estimate_s(rounds: int, seconds: float) -> float:
    """About how many seconds it takes."""
    one_round = 2 * (seconds + _BESIDE_S) + _SETTLE_S
    return _START_S + _WARM_UP_S + _PEAK_S + 2 * _BESIDE_S + rounds * one_round + seconds + _BESIDE_S


def run(model: BenchModel, rounds: int, seconds: float, advance: Callable[[], object] = lambda: None) -> Found:
    """Measure so many rounds and then the bursts, each for that long; ``advance`` is called after each of them."""
    find_repository(model)
    with run_server(penstock(model.folder, "--workers", "1"), split_cores()[0][:1]) as server:
        gateway = Gateway(server, model)
        gateway.peak(_WARM_UP_S)
        found = Found(gateway.peak(_PEAK_S) / 2, [], [])
        for number in range(rounds):
            found.rounds.append(measure(gateway, found.rate, seconds, number))
            advance()
        found.bursts.extend(gateway.bursts(seconds))
        advance()
    return found


def verdict(rounds: Sequence[Round], bursts: Sequence[float]) -> tuple[bool, str]:
    """Whether the control process slows the worker by no more than it may, and why."""
    ratio = statistics.median(one.ratio for one in rounds)
    longest = max(bursts, default=0.0)
    faults = [] if ratio <= MAY_SLOW else [f"p99.9 is {ratio:.2f} times as long beside the control process"]
    if longest > MAY_BURST_MS:
        faults.append(f"the control process has the core for {longest:.2f} ms at a time")
    if faults:
        return False, "failed: " + "; ".join(faults)
    return True, f"passed: p99.9 is {ratio:.2f} times as long (at most {MAY_SLOW}), no burst over {MAY_BURST_MS:g} ms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often both are measured (default {ROUNDS})")
    parser.add_argument(
        "--seconds", type=float, default=WINDOW_S, help=f"length of a window, in seconds (default {WINDOW_S:g})"
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 where the control process slows the worker, or bursts, by more than it may."""
    h2load.require()
    model, rounds, seconds = MODELS[arguments.model], arguments.rounds, arguments.seconds
    console = Console(width=max(Console().width, _WIDTH))
    console.print(f"about {estimate_s(rounds, seconds) / 60:.1f} minutes: {rounds} rounds, {2 * rounds + 1} windows")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=rounds + 1)
        found = run(model, rounds, seconds, lambda: progress.advance(task))
    console.print(_table(f"{model.name}, {found.rate:,.0f} requests a second", found.rounds))
    console.print(_said(found.bursts, seconds))
    passed, text = verdict(found.rounds, found.bursts)
    console.print(text, style="" if passed else "red")
    return 0 if passed else 1


def _table(title: str, rounds: Sequence[Round]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for head in ("control process", "p50 ms", "p99 ms", "p99.9 ms", "wait for the core µs", "delayed", "missed"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, all_loaded in (("beside", [one.beside for one in rounds]), ("stopped", [one.without for one in rounds])):
        windows = [loaded.window for loaded in all_loaded]
        durations = [(window.latencies.p50, window.latencies.p99, window.latencies.p999) for window in windows]
        medians = [f"{statistics.median(column):.3f}" for column in zip(*durations, strict=True)]
        waited = f"{statistics.median(loaded.waited_us for loaded in all_loaded):.2f}"
        counts = (sum(window.delayed for window in windows), sum(window.misses.total for window in windows))
        table.add_row(name, *medians, waited, *map(str, counts))
    return table


def _said(bursts: Sequence[float], seconds: float) -> str:
    if not bursts:
        return "the control process did not run"
    over = sum(burst > MAY_BURST_MS for burst in bursts)
    return (
        f"control process: {len(bursts) / seconds:.0f} bursts a second, {sum(bursts) / seconds / 10:.2f} % of the core;"
        f" the longest {bursts[-1]:.2f} ms, {over} over {MAY_BURST_MS:g} ms"
    )
