"""Runs the simulation: ``python -m tests.simulation --runs 10000`` every night, ``--seed N`` to replay one run."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from rich.progress import track

from tests.simulation.seeded import Breach, simulate


def _attempt(seed: int) -> tuple[Counter[str], str]:
    try:
        return simulate(seed).counts, ""
    except Breach as breach:
        return Counter(), str(breach)


def main() -> int:
    """Do the runs; 1 if an invariant did not hold in any."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="replay this one run")
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.runs) if asked.seed is None else [asked.seed]
    with ProcessPoolExecutor(asked.processes) as pool:
        return _report(track(pool.map(_attempt, seeds, chunksize=4), "runs", total=len(seeds)))


def _report(results: Iterable[tuple[Counter[str], str]]) -> int:
    total: Counter[str] = Counter()
    breaches = 0
    for counts, breach in results:
        total.update(counts)
        if breach:
            breaches += 1
            sys.stdout.write(f"{breach}\n")
    sys.stdout.write("".join(f"{count:8d} {name}\n" for name, count in sorted(total.items())))
    sys.stdout.write(f"{breaches} runs broke an invariant\n")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
