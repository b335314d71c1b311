"""Saved verdicts of admission on versions of repositories, with the basis on which they are valid."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.engine.durable_files import write_atomically
from penstock.registry.records import AdmissionReport
from penstock.registry.repository.copies import Files, PreparedVersion

MOST = 10_000
"""Verdicts that are saved from one run to the next."""


@dataclass(frozen=True, slots=True)
class CopyVerdict:
    """The admission report of a copied version; ``content`` identifies its bytes and its configuration."""

    report: AdmissionReport
    piece: PreparedVersion
    content: str


class VerdictCache:
    """Verdicts in memory and in ``folder``. They are valid only for their ``basis``: settings, runtime, locale,
    machine.

    A verdict is found by the state of a repository's files (``tag``), or by their bytes and configuration
    (``content``).
    """

    def __init__(self, folder: Path, basis: Mapping[str, Any]) -> None:
        self._folder = folder
        self._basis = dict(basis)
        self._known: dict[str, CopyVerdict] = {}

    def of(self, tag: str) -> CopyVerdict | None:
        """Return the verdict on files in this state, None without one."""
        if tag not in self._known:
            with suppress(OSError, ValueError, KeyError, TypeError):
                values = json.loads(self._file(tag).read_text())
                if values.pop("basis") == self._basis:
                    self._known[tag] = _decode_verdict(values)
        return self._known.get(tag)

    def report_on(self, content: str) -> AdmissionReport | None:
        """Return the report on these bytes with this configuration, None without one."""
        verdict = self.of(content)
        return None if verdict is None else verdict.report

    def keep(self, tag: str, verdict: CopyVerdict) -> None:
        """Save a verdict; if it cannot be written, remember it in this process only."""
        self._known[tag] = self._known[verdict.content] = verdict
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        text = json.dumps({"basis": self._basis, **_encode_verdict(verdict)})
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._delete_oldest()
            for name in (tag, verdict.content):
                write_atomically(self._file(name), text)

    def forget(self, tag: str) -> None:
        """Delete the verdict on files in this state, and that on their bytes, so that they are examined again."""
        verdict = self.of(tag)
        for name in (tag, *([] if verdict is None else [verdict.content])):
            self._known.pop(name, None)
            with suppress(OSError):
                self._file(name).unlink()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _delete_oldest(self) -> None:
        saved = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in saved[: max(0, len(saved) - MOST + 2)]:
            path.unlink()


def _encode_verdict(verdict: CopyVerdict) -> dict[str, Any]:
    values = asdict(verdict)
    values["piece"]["root"] = str(verdict.piece.root)
    return values


def _decode_verdict(values: Mapping[str, Any]) -> CopyVerdict:
    piece = values["piece"]
    files: Files = tuple((path, digest) for path, digest in piece["files"])
    version = PreparedVersion(**{**piece, "root": Path(piece["root"]), "files": files})
    return CopyVerdict(AdmissionReport(**values["report"]), version, values["content"])
