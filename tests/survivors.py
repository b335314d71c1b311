"""How many mutants of the core survive, by package, and which; more than a tenth of them ends in a failure.

Reads what ``mutmut results --all true`` prints: a name and a status on each line.
"""

import sys
from collections import Counter
from collections.abc import Iterable

LIMIT = 0.1
DETECTED = {"killed", "timeout", "segfault"}
UNTRIED = "not checked"
BY_TYPE = "caught by type check"
DEPTH = 3
"""Packages are told apart by this many names: ``penstock.core.rollouts``."""


def count(lines: Iterable[str]) -> dict[str, Counter[str]]:
    """How many mutants of each package have each status."""
    packages: dict[str, Counter[str]] = {}
    for line in lines:
        name, found, status = line.strip().rpartition(": ")
        if found and status != UNTRIED:
            packages.setdefault(_package(name), Counter())[status] += 1
    return packages


def list_survivors(lines: Iterable[str]) -> list[str]:
    """The names of the mutants that survive, with their status where no test has reached them."""
    found = (line.strip().rpartition(": ") for line in lines)
    return [
        name if status == "survived" else f"{name} ({status})"
        for name, _, status in found
        if name and status not in {*DETECTED, BY_TYPE, UNTRIED}
    ]


def _package(mutant: str) -> str:
    module = mutant.rpartition(".")[0].split(".")
    return ".".join(module[: max(2, min(DEPTH, len(module) - 1))])


def survivors(statuses: Counter[str]) -> int:
    """Mutants that neither a test nor the type check notices; those that no test reaches are among them."""
    return statuses.total() - statuses[BY_TYPE] - sum(statuses[status] for status in DETECTED)


def row(name: str, statuses: Counter[str]) -> str:
    """One line of the table."""
    alive = survivors(statuses)
    killed = statuses.total() - statuses[BY_TYPE] - alive
    return f"{name:28}{statuses.total():8}{statuses[BY_TYPE]:8}{killed:8}{alive:10}{alive / statuses.total():10.1%}"


def main() -> int:
    """Print the table and the survivors; 1 if too many survive, or if there are no mutants at all."""
    results = sys.stdin.readlines()
    packages = count(results)
    total: Counter[str] = sum(packages.values(), Counter())
    if not total:
        sys.stderr.write("there are no mutants; run: make mutation\n")
        return 1
    lines = [f"{'package':28}{'mutants':>8}{'types':>8}{'tests':>8}{'survivors':>10}{'share':>10}"]
    lines += [row(name, packages[name]) for name in sorted(packages)]
    sys.stdout.write("\n".join([*lines, row("all", total), "", *list_survivors(results)]) + "\n")
    return int(survivors(total) > LIMIT * total.total())


if __name__ == "__main__":
    sys.exit(main())
