"""The demo from start to end: train, push, predict, send traffic, roll out a good and a bad version, retrain, count."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import CallFailed, Client, Document, RestClient
from penstock.cli.demo import counts, pictures
from penstock.cli.demo.gateway import DemoGateway, GatewayFailed, serve_registry
from penstock.cli.demo.loop import Loop
from penstock.cli.demo.traffic import (
    ROLLOUT_PAUSE_SECONDS,
    CallingThread,
    GrpcTransport,
    RestTransport,
    WrongAnswer,
    drive,
)
from penstock.cli.demo.training import (
    FAULTY,
    INPUT,
    LABELS,
    MODEL,
    DigitRows,
    VersionRecipe,
    describe_origin,
    list_recipes,
    read_digits,
    scaled_twice,
    train,
    write_version,
)
from penstock.cli.grpc_client import GrpcClient
from penstock.cli.rollout import render
from penstock.cli.rollout_progress import OPEN
from penstock.cli.upload import read_upload
from penstock.core.tensors import Array
from penstock.core.versions import CHAMPION
from penstock.engine.scratch import scratch_folder, temporary_folder

SAMPLES = 3
CALL_SECONDS = 10.0
TRAFFIC_SECONDS = 5.0
ROLLOUT_SECONDS = 180.0
ROLLOUT_ROWS = 200
GUARDS = ({"metric": "errors", "max_increase": 0.01}, {"metric": "latency", "max_ratio": 3}, {"metric": "outputs"})
"""Of both rollouts. The first bound is proven by some hundred requests, the default of 0.002 by thousands."""

CALLERS = 3
SETTLE_SECONDS = 3.0


class StoryFailed(Exception):
    """A step of the demo had an unexpected result; the text says which."""


def run_story(once: bool) -> None:
    """Run the whole demo; afterwards serve until Ctrl-C, unless ``once``.

    Raises:
        StoryFailed: the gateway did not start, or gave a wrong answer or a wrong count.
        KeyboardInterrupt: stopped before its end.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False)
    with scratch_folder(temporary_folder(), "demo") as name:
        folder = Path(name)
        try:
            DemoStory(console, folder, once).run()
        except (GatewayFailed, CallFailed, WrongAnswer) as failure:
            raise StoryFailed(str(failure)) from None


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class DemoStory:
    """The steps in order; ``sent`` counts every prediction by version and protocol."""

    def __init__(self, console: Console, folder: Path, once: bool) -> None:
        self.console = console
        self.folder = folder
        self.once = once
        self.sent: Counter[tuple[str, str]] = Counter()
        self.digits: DigitRows = read_digits()

    def run(self) -> None:
        """Run every step; see ``run_story``."""
        pipelines = self.train()
        self.title("Starting a gateway with an empty registry")
        with serve_registry(self.folder) as gateway:
            self.console.print(f"REST {gateway.http} · gRPC {gateway.grpc} · ops {gateway.ops}")
            self.console.print(f"Open http://{gateway.ops}/console/ in a browser to watch what follows")
            self.push(gateway, pipelines)
            self.predict(gateway)
            self.load(gateway)
            self.roll_out_the_good(gateway)
            self.roll_out_the_bad(gateway, pipelines)
            self.close_the_loop(gateway)
            self.count(gateway)
            self.where_to_look(gateway)
            if not self.once:
                self.stay(gateway)
        self.console.print("The gateway has drained and stopped.")

    def title(self, text: str) -> None:
        """Begin a step."""
        self.console.print(f"\n[bold]{text}[/bold]")

    def train(self) -> dict[str, Any]:
        """Train every version, with a bar for each; pipelines by version."""
        rows, held_out = len(self.digits.train_rows), len(self.digits.test_rows)
        self.title(f"Training two versions of a classifier on {rows} scanned digits ({held_out} held out)")
        described = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        columns = (*described, TextColumn("held-out accuracy {task.fields[accuracy]:.1%}"))
        with Progress(*columns, console=self.console) as bars:
            return {recipe.version: self.train_one(recipe, bars) for recipe in list_recipes()}

    def train_one(self, recipe: VersionRecipe, bars: Progress) -> Any:
        """Train one version, with its bar."""
        task = bars.add_task(f"version {recipe.version}: {recipe.title}", total=recipe.epochs, accuracy=0.0)
        return train(recipe, self.digits, lambda accuracy: bars.update(task, advance=1, accuracy=accuracy))

    def push(self, gateway: DemoGateway, pipelines: dict[str, Any]) -> None:
        """Push both versions; each is examined in a process of its own before it may serve."""
        self.title("Pushing both versions: each is examined, stored under its digest, loaded")
        registry = AdminApiClient(gateway.owner)
        for recipe in list_recipes():
            folder, pipeline = self.folder / recipe.version, pipelines[recipe.version]
            write_version(folder, pipeline)
            lineage = describe_origin(recipe, self.digits, pipeline)
            pushed = registry.push(
                MODEL, recipe.version, read_upload(folder), lineage, "the demo", lambda _done, _total: None
            )
            admission = pushed["admission"]
            operators = ", ".join(sorted(admission["ops"]))
            self.console.print(
                f"version {recipe.version} {pushed['digest'][:19]} is {pushed['state']}: "
                f"one run takes {admission['p50_us']} µs; operators {operators}"
            )

    def roll_out_the_good(self, gateway: DemoGateway) -> None:
        """Roll the second version out to all the traffic."""
        self.title("A rollout: version 2 replaces version 1 step by step, as the evidence allows")
        registry = AdminApiClient(gateway.owner)
        registry.alias(MODEL, CHAMPION, "1", "", "the demo")
        with RestClient(gateway.http, CALL_SECONDS) as client:
            self.answered_by(client, "champion points to version 1", "1")
            over = self.roll_out(gateway, "2")
            if over["state"] != "promoted":
                raise StoryFailed(f"version 2 should have been promoted: {over['state']}, {over['reason']}")
            self.answered_by(client, "promoted; champion points to version 2", "2")

    def roll_out_the_bad(self, gateway: DemoGateway, pipelines: dict[str, Any]) -> None:
        """Push a version that scales its pixels twice; the evidence rolls it back."""
        self.title(f"A faulty version {FAULTY}, which scales its pixels twice, is pushed and rolled back")
        folder, registry = self.folder / FAULTY, AdminApiClient(gateway.owner)
        write_version(folder, scaled_twice(pipelines["2"]))
        lineage = {"card": {"summary": "Handwritten digits, scaled twice"}}
        registry.push(MODEL, FAULTY, read_upload(folder), lineage, "the demo", lambda _done, _total: None)
        over = self.roll_out(gateway, FAULTY)
        if over["state"] != "rolled_back":
            raise StoryFailed(f"version {FAULTY} should have been rolled back: {over['state']}, {over['reason']}")
        with RestClient(gateway.http, CALL_SECONDS) as client:
            self.answered_by(client, "rolled back", "2")

    def close_the_loop(self, gateway: DemoGateway) -> None:
        """Shift the digits, and follow the gateway until the retrained version answers."""
        self.title("The scanner slips: the gateway detects drift, requests retraining and rolls out the result")
        if not Loop(self.console, gateway, self.digits, self.sent, request).run(self.folder):
            raise StoryFailed("the retrained version should answer now, and does not")
        self.console.print("the retrained version answers")

    def roll_out(self, gateway: DemoGateway, version: str) -> Document:
        """Start a rollout under traffic, and watch it to its end."""
        registry = AdminApiClient(gateway.owner)
        specification = {"to": version, "steps": [2500, 5000, 10000], "min_step_seconds": 1, "guards": GUARDS}
        started = registry.begin(MODEL, "rollouts", {**specification, "reason": "the demo"})
        rows = [request(row[None]) for row in self.digits.test_rows[:ROLLOUT_ROWS]]
        callers = [
            CallingThread(
                f"REST {index}",
                "rest",
                RestTransport(gateway.http, "", *rows[index::CALLERS]),
                "",
                ROLLOUT_PAUSE_SECONDS,
            )
            for index in range(CALLERS)
        ]
        state = started
        console = self.console if self.console.is_terminal else Console(quiet=True)
        with Live(render(state), console=console, auto_refresh=False) as live:

            def look(_: float) -> bool:
                nonlocal state
                after = registry.trial(MODEL, "rollouts", started["id"])
                if not self.console.is_terminal and (after["weight"], after["state"]) != (
                    state["weight"],
                    state["state"],
                ):
                    self.console.print(f"version {version} has {after['weight'] / 100:g} %: {after['reason']}")
                state = after
                live.update(render(state), refresh=True)
                return bool(state["state"] not in OPEN)

            drive(callers, ROLLOUT_SECONDS, look)
        for caller in callers:
            for answered, calls in caller.versions.items():
                self.sent[answered, caller.protocol] += calls
        evidence = {name: (item["verdict"], item["n_canary"]) for name, item in state["evidence"].items()}
        verdicts = ", ".join(f"{name} {verdict} after {count}" for name, (verdict, count) in evidence.items())
        self.console.print(f"{state['state']}: {verdicts} canary requests", soft_wrap=True)
        return state

    def answered_by(self, client: Client, what: str, version: str) -> None:
        """Send one request without a version, and check which version answers."""
        reply = client.infer(MODEL, "", request(self.digits.test_rows[:1]))
        self.sent[version, "rest"] += 1
        if reply.version != version:
            raise StoryFailed(f"{what}: version {reply.version} answered")
        self.console.print(f"{what}: version {version} answers")

    def predict(self, gateway: DemoGateway) -> None:
        """Send every held-out digit to both versions by both protocols; print a few answers and the accuracies."""
        answers = {}
        with RestClient(gateway.http, CALL_SECONDS) as rest, GrpcClient(gateway.grpc, CALL_SECONDS) as by_grpc:
            for version in (recipe.version for recipe in list_recipes()):
                for protocol, client in (("rest", rest), ("grpc", by_grpc)):
                    answers[version, protocol] = self.ask(client, protocol, version)
        chosen = self.choose(answers["1", "rest"].argmax(axis=1))
        truths = [LABELS[self.digits.test_labels[index]] for index in chosen]
        plain = not (self.console.encoding or "").lower().startswith("utf")
        lines = [("", [pictures.draw_digit(self.digits.test_rows[index], plain) for index in chosen]), ("version", [])]
        lines += [
            (f"{version} by {protocol}", [find_top_label(answer[index]) for index in chosen])
            for (version, protocol), answer in answers.items()
        ]
        self.title("Predictions for held-out digits")
        self.console.print(pictures.side_by_side([f"truth: {truth}" for truth in truths], lines))
        for (version, protocol), answer in answers.items():
            share = float(np.mean(answer.argmax(axis=1) == self.digits.test_labels))
            self.console.print(f"version {version} by {protocol}: {share:.1%} of {len(answer)} held-out digits right")

    def ask(self, client: Client, protocol: str, version: str) -> Array:
        """Return the probabilities [rows, classes] of one version for all held-out digits."""
        rows = self.digits.test_rows
        reply = client.infer(MODEL, version, request(rows))
        self.sent[version, protocol] += 1
        if (reply.version, reply.route) != (version, "pinned"):
            raise StoryFailed(
                f"requested version {version} by {protocol}, but {reply.version} ({reply.route}) answered"
            )
        outputs = {output["name"]: output for output in reply.document["outputs"]}
        return np.array(outputs["probabilities"]["data"]).reshape(len(rows), len(LABELS))

    def choose(self, first_version: Array) -> list[int]:
        """Choose digits to print: one the first version gets wrong, and the first few it gets right."""
        right = first_version == self.digits.test_labels
        return [*np.flatnonzero(~right)[:1].tolist(), *np.flatnonzero(right)[: SAMPLES - 1].tolist()]

    def load(self, gateway: DemoGateway) -> None:
        """Send traffic for a few seconds and print its figures."""
        self.title(f"Traffic for {TRAFFIC_SECONDS:.0f} seconds: three callers at full speed, in one process")
        item = request(self.digits.test_rows[:1])
        callers = [
            CallingThread("REST, no version", "rest", RestTransport(gateway.http, "", item), "2"),
            CallingThread("REST, version 1", "rest", RestTransport(gateway.http, "1", item), "1"),
            CallingThread("gRPC, version 2", "grpc", GrpcTransport(gateway.grpc, "2", item), "2"),
        ]
        self.watch(callers)
        for caller in callers:
            for version, calls in caller.versions.items():
                self.sent[version, caller.protocol] += calls

    def watch(self, callers: list[CallingThread]) -> None:
        """Run the callers; update the figures on a terminal, else print the last ones."""
        if not self.console.is_terminal:
            seconds = drive(callers, TRAFFIC_SECONDS, lambda _: None)
            self.console.print(pictures.draw_traffic(callers, seconds))
            return
        with Live(console=self.console, auto_refresh=False) as live:
            drive(
                callers,
                TRAFFIC_SECONDS,
                lambda passed: live.update(pictures.draw_traffic(callers, passed), refresh=True),
            )

    def count(self, gateway: DemoGateway) -> None:
        """Compare the gateway's counters with the requests sent."""
        self.title("Requests sent and requests counted by the gateway (/metrics)")
        counted, errors = wait_settled(lambda: counts.read(gateway.ops), dict(self.sent))
        self.console.print(pictures.draw_counters(dict(self.sent), dict(counted)))
        if counted != self.sent or errors:
            raise StoryFailed(f"the counters differ from the requests sent ({errors} errors counted)")

    def where_to_look(self, gateway: DemoGateway) -> None:
        """Print commands to try while the gateway runs."""
        sample = self.folder / "digit.json"
        sample.write_text(json.dumps(request(self.digits.test_rows[:1])))
        self.title("The console, which shows all of this")
        self.console.print(f"http://{gateway.ops}/console/models/{MODEL}", soft_wrap=True)
        self.title("Commands to try while the gateway runs")
        for command in (
            f"curl -s http://{gateway.http}/v2/models/{MODEL}",
            f"curl -s http://{gateway.http}/v2/models/{MODEL}/versions/1/infer -d @{sample}",
            f"curl -s http://{gateway.http}/v2/models/{MODEL}/stats",
            f"curl -s http://{gateway.ops}/readyz",
            f"{own_command()} models list --url {gateway.ops}",
            f"{own_command()} models show {MODEL}:2 --url {gateway.ops}",
            f"{own_command()} route show {MODEL} --url {gateway.ops}",
            f"{own_command()} rollout status {MODEL} --url {gateway.ops}",
            f"{own_command()} events --url {gateway.ops}",
            f"{own_command()} audit --url {gateway.ops}",
            f"curl -s http://{gateway.ops}/metrics | grep penstock_requests_total",
            f"{own_command()} predict {MODEL} --data @{sample} --grpc --url {gateway.grpc}",
        ):
            self.console.print(f"  {command}", soft_wrap=True, markup=False)

    def stay(self, gateway: DemoGateway) -> None:
        """Serve until Ctrl-C, or until the gateway ends unexpectedly."""
        self.console.print("\nServing until Ctrl-C.")
        try:
            while gateway.process.poll() is None:
                time.sleep(0.2)
        except KeyboardInterrupt:
            self.console.print("\nStopping.")
            return
        raise StoryFailed(f"the gateway ended unexpectedly with exit code {gateway.process.returncode}")


def own_command() -> str:
    """Return the command that started this program."""
    called = Path(sys.argv[0])
    return f"{sys.executable} -m penstock" if called.suffix == ".py" else str(called)


def request(rows: Array) -> Document:
    """Return the V2 request for rows of pixels."""
    data = rows.astype(int).ravel().tolist()
    return {"inputs": [{"name": INPUT, "datatype": "FP32", "shape": list(rows.shape), "data": data}]}


def find_top_label(probabilities: Array) -> str:
    """Return the most likely label and its probability."""
    best = int(probabilities.argmax())
    return f"{LABELS[best]} {probabilities[best]:.1%}"


def wait_settled(
    read: Callable[[], tuple[counts.AnswerCounts, int]], sent: dict[tuple[str, str], int]
) -> tuple[counts.AnswerCounts, int]:
    """Return the counters when they equal the requests sent, or after a moment: answers are counted when written."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        counted, errors = read()
        if counted == sent or time.monotonic() > end:
            return counted, errors
        time.sleep(0.05)
