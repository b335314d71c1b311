"""Sandboxes of tests take a report from memory only where all is the same that decides about a content."""

from pathlib import Path
from typing import Any

import pytest

from tests import remembered

ADMITTED = b'{"reason": "", "detail": "", "facts": {}}'


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "weights").write_bytes(b"numbers")
    limits = {"seconds": 4.0, "patience": 16.0, "memory_bytes": 1 << 30, "required": False}
    files = {"graph": str(folder / "model.onnx"), "weights": str(folder), "base": ""}
    return {"number": 1, "work": "examine", "config": "", **files, **limits}


@pytest.mark.parametrize(
    "change",
    [{"work": "plan"}, {"config": "{}"}, {"seconds": 5.0}, {"memory_bytes": 1}, {"required": True}, {"weights": ""}],
    ids=str,
)
def test_another_order_is_examined(order: dict[str, Any], change: dict[str, Any]) -> None:
    assert remembered.identify(order | change) != remembered.identify(order)


@pytest.mark.parametrize("name", ["model.onnx", "weights", "another"])
def test_other_bytes_are_examined(order: dict[str, Any], name: str) -> None:
    before = remembered.identify(order)
    Path(order["weights"], name).write_bytes(b"changed")
    assert remembered.identify(order) != before


def test_another_environment_is_examined(order: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before = remembered.identify(order)
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    assert remembered.identify(order) != before


def test_the_same_elsewhere_is_not_examined(order: dict[str, Any], tmp_path: Path) -> None:
    before = remembered.identify(order)
    moved = tmp_path / "version" / ".." / "version"
    assert (
        remembered.identify(order | {"number": 2, "graph": str(moved / "model.onnx"), "weights": str(moved)}) == before
    )


def test_links_and_large_files_are_examined(
    order: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Path(order["weights"], "link")
    link.symlink_to("weights")
    with pytest.raises(ValueError, match="link"):
        remembered.identify(order)
    link.unlink()
    monkeypatch.setattr(remembered, "MOST_BYTES", 6)
    with pytest.raises(ValueError, match="weights"):
        remembered.identify(order)


@pytest.mark.parametrize(
    "answer", [b"", ADMITTED[:-1], b'{"reason": "it is not an ONNX graph"}', b'{"unsafe": "no seccomp"}'], ids=str
)
def test_only_a_whole_report_of_admission_is_remembered(answer: bytes) -> None:
    assert not remembered.is_admitted(answer)
    assert remembered.is_admitted(ADMITTED)
