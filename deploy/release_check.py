"""Checks a release before it is tagged: the version, the changelog and the tag agree, and nothing is left unreleased.

``python deploy/release_check.py [TAG]``; without a tag it checks what holds between releases too.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
HEADING = re.compile(r"^## \[([^\]]+)\](.*)$", re.MULTILINE)
RELEASE = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
"""Semantic versions as PEP 440 spells them, with pre-releases such as 1.2.0rc1."""


def find_problems(source: str, changelog: str, tag: str = "") -> Iterator[str]:
    """Yield what is wrong: ``source`` is the file with the version, ``tag`` the tag of a release, if there is one."""
    stated = VERSION.findall(source)
    if len(stated) != 1:
        yield f'the package states {len(stated)} versions; expected one line __version__ = "..."'
        return
    (version,) = stated
    headings = HEADING.findall(changelog)
    names = [name for name, _ in headings]
    if not RELEASE.fullmatch(version):
        yield f"{version} is not a version; expected MAJOR.MINOR.PATCH, perhaps with a1, b1 or rc1 behind it"
    if names[:1] != ["Unreleased"]:
        yield "CHANGELOG.md does not begin with ## [Unreleased]; add it, even if it is empty"
    if names[1:2] != [version]:
        yield f"the newest release in CHANGELOG.md is {names[1:2] or 'none'}, and the version is {version}"
    if len(set(names)) < len(names):
        yield "CHANGELOG.md has a version twice"
    if tag:
        yield from _find_problems_of_tag(version, changelog, tag, dict(headings))


def _find_problems_of_tag(version: str, changelog: str, tag: str, headings: dict[str, str]) -> Iterator[str]:
    if tag != f"v{version}":
        yield f"the tag is {tag}, and the version is {version}; expected v{version}"
    if not re.fullmatch(r" - \d{4}-\d\d-\d\d", headings.get(version, "")):
        yield f"CHANGELOG.md does not date the release; expected: ## [{version}] - YYYY-MM-DD"
    if HEADING.split(changelog)[3:4] != ["\n\n"]:
        yield f"CHANGELOG.md has unreleased changes; move them below ## [{version}]"


def main(tag: str = "") -> int:
    """Print what is wrong; return the exit code."""
    root = Path(__file__).parents[1]
    source, changelog = (root / "src/penstock/__init__.py").read_text(), (root / "CHANGELOG.md").read_text()
    problems = list(find_problems(source, changelog, tag))
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 - what a releaser reads
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
