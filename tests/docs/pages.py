"""What a page asks its reader to do: files to write, and commands in terminals with what they print."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)(.*)$")
INTERRUPT = "^C"
"""What stands in the place of a command where the reader presses Ctrl-C."""

_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class File:
    """A block with the title of a file: the reader writes it."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line after the prompt, and the lines it prints; a line of three dots stands for any lines, or for none.

    ``terminal`` is the title of its block, if it has one: the last command there ``stays`` while the reader goes on.
    """

    terminal: str
    text: str
    printed: tuple[str, ...]
    line: int
    stays: bool


def steps_of(page: Path) -> list[File | Command]:
    """Everything that the reader of a page does, in order."""
    steps: list[File | Command] = []
    for language, info, lines, number in _blocks(page.read_text().splitlines()):
        title = _TITLE.search(info)
        if language == "console":
            steps.extend(_commands(title[1] if title else "", lines, number))
        elif title:
            steps.append(File(title[1], "\n".join(lines) + "\n"))
    return steps


def _blocks(lines: list[str]) -> Iterator[tuple[str, str, list[str], int]]:
    """Language, rest of the info string, content and number of the first line of each fenced block."""
    opened: tuple[str, str, str, int] | None = None
    content: list[str] = []
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, content = (fence[1], fence[2], fence[3], number + 1), []
        elif opened and fence and not fence[2]:
            yield opened[1], opened[2], content, opened[3]
            opened = None
        elif opened:
            content.append(line.removeprefix(opened[0]))


def _commands(terminal: str, lines: list[str], first: int) -> Iterator[Command]:
    number, index = first, 0
    while index < len(lines):
        if not lines[index].startswith(("$ ", INTERRUPT)):
            raise ValueError(f"line {first + index}: a console block begins with a prompt ('$ ') or with {INTERRUPT}")
        number, text, index = first + index, [lines[index].removeprefix("$ ")], index + 1
        while not _complete("\n".join(text)):
            text.append(lines[index])
            index += 1
        printed = []
        while index < len(lines) and not lines[index].startswith("$ "):
            printed.append(lines[index])
            index += 1
        stays = bool(terminal) and index == len(lines) and text != [INTERRUPT]
        yield Command(terminal, "\n".join(text), tuple(printed), number, stays)


def _complete(text: str) -> bool:
    """Whether a shell would run this, and not ask for another line."""
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return not text.endswith("\\")


def agrees(expected: tuple[str, ...], printed: list[str]) -> bool:
    """Whether a page shows what was printed: dots stand for any text within a line, a line of dots for any lines."""
    text = "\n".join(line.rstrip() for line in printed).strip("\n") + "\n"
    return re.fullmatch("".join(map(_pattern, expected)), text) is not None


def _pattern(line: str) -> str:
    return r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
