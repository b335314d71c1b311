"""Verdicts outlive the process, and count as long as what they rest on is the same."""

from pathlib import Path

import pytest

from penstock.registry.admission import examiner, locales
from penstock.registry.admission.examiner import AdmissionOptions, describe_basis
from penstock.registry.records import AdmissionReport
from penstock.registry.repository.copies import PreparedVersion
from penstock.registry.repository.verdicts import CopyVerdict, VerdictCache

PIECE = PreparedVersion(
    Path("/copies/x"), "version/model.onnx", "model", (("version/model.onnx", "0" * 64),), "sha256:1", "x"
)
VERDICT = CopyVerdict(AdmissionReport("it is bad", {"ops": {"Relu": 1}}, "all of it"), PIECE, "content")


def test_a_verdict_is_found_by_its_files_and_by_its_bytes(tmp_path: Path) -> None:
    VerdictCache(tmp_path, {"runtime": "1"}).keep("tag", VERDICT)
    again = VerdictCache(tmp_path, {"runtime": "1"})
    assert again.of("tag") == VERDICT
    assert again.report_on("content") == VERDICT.report
    assert again.of("other") is None
    assert VerdictCache(tmp_path, {"runtime": "2"}).of("tag") is None


def test_a_forgotten_verdict_is_gone_for_both(tmp_path: Path) -> None:
    VerdictCache(tmp_path, {}).keep("tag", VERDICT)
    verdicts = VerdictCache(tmp_path, {})
    verdicts.forget("tag")
    verdicts.forget("nothing")
    for item in (verdicts, VerdictCache(tmp_path, {})):
        assert item.of("tag") is None
        assert item.report_on("content") is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"basis": {}}', '{"basis": {}, "report": 1, "piece": {}, "content": ""}']
)
def test_an_unreadable_file_is_not_a_verdict(tmp_path: Path, text: str) -> None:
    (tmp_path / "tag.json").write_text(text)
    assert VerdictCache(tmp_path, {}).of("tag") is None


def test_where_nothing_can_be_written_it_is_remembered_for_now(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    verdicts = VerdictCache(tmp_path / "file", {})
    verdicts.keep("tag", VERDICT)
    assert verdicts.of("tag") == VERDICT


def test_only_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.registry.repository.verdicts.MOST", 6)
    verdicts = VerdictCache(tmp_path, {})
    for number in range(10):
        verdicts.keep(f"tag {number}", CopyVerdict(AdmissionReport(), PIECE, f"content {number}"))
    assert len(list(tmp_path.iterdir())) <= 6
    assert len(verdicts._known) <= 6
    assert verdicts.of("tag 9") is not None


def test_what_a_verdict_rests_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "C.utf8").mkdir()
    monkeypatch.setattr(locales, "FOLDER", tmp_path)
    first = describe_basis(AdmissionOptions())
    assert describe_basis(AdmissionOptions()) == first
    assert first["machine"]
    assert "C.utf8" in str(first["locales"])
    assert describe_basis(AdmissionOptions(seconds=9.0)) != first
    assert describe_basis(AdmissionOptions(memory_bytes=1 << 30)) != first
    (tmp_path / "en_US.utf8").mkdir()
    installed = describe_basis(AdmissionOptions())
    assert installed != first
    (tmp_path / "locale-archive").write_text("one")
    archived = describe_basis(AdmissionOptions())
    assert archived != installed
    (tmp_path / "locale-archive").write_text("another")
    assert describe_basis(AdmissionOptions()) != archived
    monkeypatch.setattr(examiner, "__version__", "the next one")
    assert describe_basis(AdmissionOptions())["penstock"] == "the next one"
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    assert "LC_ALL=tr_TR.UTF-8" in str(describe_basis(AdmissionOptions())["locales"])
