"""Erases the rows of a subject from the files of one home: captured requests, remembered answers, exports."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from penstock.core.erasure import ID, ColumnPlace, ErasureReport, SubjectKey
from penstock.core.versions import VersionKey
from penstock.monitor.answer_segments import ALL_ROWS
from penstock.monitor.answers import prefix_of
from penstock.monitor.capture import CAPTURES, segments_of
from penstock.monitor.erased_rows import Features, erase_from_segments
from penstock.monitor.erased_tables import erase_from_tables

UNKNOWN: Final = "captured requests of a model that is not known any longer: their answers were not searched"

EraseAnswers = Callable[[str, Mapping[str, frozenset[int]]], int]
"""Erases the remembered answers to rows of a model, by the ids of their requests; blocks, and raises ``OSError``."""


@dataclass(frozen=True, slots=True)
class HomeErasure:
    """Erases in ``home``; ``models`` names the models that are known, ``features`` says where the features of a version
    are. Calls block; one thread may use it at a time."""

    home: Path
    erase_answers: EraseAnswers
    models: Callable[[], Collection[str]]
    features: Callable[[VersionKey], Features]

    def erase(self, model: str | None, key: SubjectKey) -> ErasureReport:
        """Erase the rows of a subject, of one model or of all."""
        report = self._erase_requests(model, key)
        return report + erase_from_tables(self.home / "retraining", model, key, self.features)

    def _erase_requests(self, model: str | None, key: SubjectKey) -> ErasureReport:
        names = {prefix_of(name): name for name in ([model] if model else self.models())}
        report = ErasureReport()
        gone: dict[str, dict[str, frozenset[int]]] = {name: {} for name in names.values()}
        for (prefix, version), paths in segments_of(self.home / CAPTURES, prefix_of(model) if model else None).items():
            name = names.get(prefix, "")
            try:
                erased = erase_from_segments(paths, key, self.features((name, version)))
            except OSError as error:
                report += _report_problem("captured requests", error)
                continue
            report += ErasureReport(requests=len(erased.gone), rows=erased.rows, files=erased.files)
            if name:
                gone[name] |= {request: rows for request, (rows, _) in erased.gone.items()}
            elif erased.gone:
                report += ErasureReport(problems=(UNKNOWN,))
        return report + self._erase_answers(gone, key)

    def _erase_answers(self, gone: Mapping[str, dict[str, frozenset[int]]], key: SubjectKey) -> ErasureReport:
        report = ErasureReport()
        for name, rows in gone.items():
            if key.column == ID:  # remembered also where the request was not captured
                rows[key.value] = ALL_ROWS
            try:
                report += ErasureReport(answers=self.erase_answers(name, rows) if rows else 0)
            except OSError as error:
                report += _report_problem("remembered answers", error)
        return report


def feature_places(names: Sequence[str], signature: Mapping[str, Any] | None) -> Features:
    """Return where the features of a version are: in the only input, in their order."""
    inputs = (signature or {}).get("inputs", ())
    return {name: ColumnPlace(inputs[0]["name"], index) for index, name in enumerate(names) if len(inputs) == 1}


def _report_problem(what: str, error: OSError) -> ErasureReport:
    return ErasureReport(problems=(f"{what} cannot be written: {error.strerror or type(error).__name__}",))
