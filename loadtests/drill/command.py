"""``python -m loadtests rollout-drill``: bad canaries have to be rolled back, and good ones promoted."""

import argparse
import json
import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtests.drill.kinds import KINDS
from loadtests.drill.run import Outcome, drill

STATE_LABELS = {"rolled_back": "rolled back", "": "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="kinds whose names have this in them; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(arguments: argparse.Namespace) -> int:
    """Run the drill; 1 unless every kind is right."""
    chosen = [kind for kind in KINDS if not arguments.only or any(name in kind.name for name in arguments.only)]
    if not chosen:
        print("no kind has that name; there are: " + ", ".join(kind.name for kind in KINDS), file=sys.stderr)
        return 2
    console, outcomes = Console(stderr=True), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(chosen))
        for kind in chosen:

            def report(part: str, name: str = kind.name) -> None:
                progress.update(task, description=f"{name}: {part}")

            outcomes.append(drill(kind, report))
            progress.advance(task)
    if arguments.json:
        print(json.dumps([outcome.out() for outcome in outcomes], indent=1))
    else:
        show(Console(), outcomes)
    return 0 if all(outcome.right for outcome in outcomes) else 1


def show(console: Console, outcomes: list[Outcome]) -> None:
    """Print a table of what came of each kind."""
    table = Table(box=SIMPLE_HEAD)
    for head in ("canary", "Penstock", "right", "harmed", "requests", "s", "Argo's template", "Flagger's template"):
        table.add_column(head, justify="right" if head in ("harmed", "requests", "s") else "left")
    for outcome in outcomes:
        ended, right = STATE_LABELS.get(outcome.ended, outcome.ended), "yes" if outcome.right else "NO"
        numbers = str(outcome.harmed), str(outcome.requests), f"{outcome.seconds:.0f}"
        table.add_row(outcome.kind, ended, right, *numbers, _template(outcome.argo), _template(outcome.flagger))
    console.print(table)
    for outcome in outcomes:
        if not outcome.right:
            console.print(f"{outcome.kind}: {outcome.ended}: {outcome.reason}; {'; '.join(outcome.faults)}")


def _template(decided: tuple[str, int]) -> str:
    word, count = decided
    return f"{STATE_LABELS.get(word, word)} after {count}" if count else "never begins"
