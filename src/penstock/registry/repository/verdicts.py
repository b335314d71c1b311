"""Admission's verdicts on what repositories hold, kept with what they rest on."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.engine.durable_files import write_atomically
from penstock.registry.records import Report
from penstock.registry.repository.copies import Files, Piece

MOST = 10_000
"""Verdicts that are kept from one run to the next."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What admission found of a piece; ``content`` names its bytes and its configuration."""

    report: Report
    piece: Piece
    content: str


class Verdicts:
    """Verdicts in memory and in ``folder``; ``basis`` is what they rest on beside the files: settings, runtime, locale,
    machine. On another basis there are none.

    A verdict is found by the state of a repository's files (``tag``), or by their bytes and configuration
    (``content``).
    """

    def __init__(self, folder: Path, basis: Mapping[str, Any]) -> None:
        self._folder = folder
        self._basis = dict(basis)
        self._known: dict[str, Verdict] = {}

    def of(self, tag: str) -> Verdict | None:
        """What was found of files in this state, None if nothing was."""
        if tag not in self._known:
            with suppress(OSError, ValueError, KeyError, TypeError):
                values = json.loads(self._file(tag).read_text())
                if values.pop("basis") == self._basis:
                    self._known[tag] = _verdict_in(values)
        return self._known.get(tag)

    def report_on(self, content: str) -> Report | None:
        """What was found of these bytes under this configuration, None if nothing was."""
        found = self.of(content)
        return None if found is None else found.report

    def keep(self, tag: str, verdict: Verdict) -> None:
        """Remember a verdict; where nothing can be written, for this process alone."""
        self._known[tag] = self._known[verdict.content] = verdict
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        text = json.dumps({"basis": self._basis, **_verdict_out(verdict)})
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room()
            for name in (tag, verdict.content):
                write_atomically(self._file(name), text)

    def forget(self, tag: str) -> None:
        """Have files in this state examined anew, and so their bytes."""
        found = self.of(tag)
        for name in (tag, *([] if found is None else [found.content])):
            self._known.pop(name, None)
            with suppress(OSError):
                self._file(name).unlink()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _make_room(self) -> None:
        kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in kept[: max(0, len(kept) - MOST + 2)]:
            path.unlink()


def _verdict_out(verdict: Verdict) -> dict[str, Any]:
    values = asdict(verdict)
    values["piece"]["root"] = str(verdict.piece.root)
    return values


def _verdict_in(values: Mapping[str, Any]) -> Verdict:
    piece = values["piece"]
    files: Files = tuple((path, digest) for path, digest in piece["files"])
    kept = Piece(**{**piece, "root": Path(piece["root"]), "files": files})
    return Verdict(Report(**values["report"]), kept, values["content"])
