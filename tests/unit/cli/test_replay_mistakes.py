"""What `penstock replay` finds out before it sends anything, and its line of progress."""

import io
from pathlib import Path

import pytest

from penstock.cli.loadtest.target import TargetAddress
from penstock.cli.replay.command import parse_share
from penstock.cli.replay.output import ReplayProgress, time_left
from penstock.cli.replay.sources import ModelName, check_files, is_address, parts_of, target_of
from penstock.cli.requests import BadData
from penstock.cli.tls import TlsAddress
from penstock.monitor.capture_parts import ReadCounts
from tests.unit.cli.test_loadtest_progress import Terminal


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://gateway:8000", True),
        ("https://gateway", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("localhost:8000", True),
        ("fraud:2", False),
        ("fraud", False),
        ("10.0.0.1", False),
    ],
)
def test_an_address_is_distinguished_from_a_version(text: str, found: bool) -> None:
    assert is_address(text) is found


def test_the_target_is_an_address_with_a_model_or_a_model_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_GRPC_PORT", "9001")
    assert target_of("fraud:2", None, ["fraud:1"], True) == TargetAddress("127.0.0.1:9001", True, "fraud", "2")
    assert target_of("http://h:1/", "fraud:2", ["x"], True) == TargetAddress("h:1", True, "fraud", "2")
    assert target_of("http://h:1", None, ["fraud:1", "fraud:2"], False) == TargetAddress("h:1", False, "fraud", "")
    assert target_of("https://h", "fraud", ["x"], False) == TargetAddress(TlsAddress("h:443"), False, "fraud", "")


@pytest.mark.parametrize(
    ("to", "model", "captures", "text"),
    [
        ("fraud:2", "fraud:2", ["x"], "--model belongs to an address"),
        ("http://h:1", None, ["a:1", "b:1"], "needs the model"),
        ("fraud:", None, ["x"], "expected a model, alone or with a version"),
    ],
)
def test_targets_without_a_model_or_with_two_are_refused(
    to: str, model: str | None, captures: list[str], text: str
) -> None:
    with pytest.raises(BadData, match=text):
        target_of(to, model, captures, False)


@pytest.mark.parametrize(("text", "share"), [("0", 0.0), ("0.25", 0.25), ("0.5%", 0.005), ("100%", 1.0)])
def test_a_share_is_a_number_or_a_percentage(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["-1", "2", "many", "%", "nan"])
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--max-differences: expected a share"):
        parse_share(text)


def test_captures_that_hold_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    metadata: dict[str, list[object]] = {"inputs": [], "outputs": []}
    for text, message in (
        ("fraud:1", "'fraud:1' is not a file or folder"),
        (str(tmp_path), "holds no captured requests"),
    ):
        with pytest.raises(BadData, match=message):
            parts_of([text], "fraud", metadata, None)
    other = tmp_path / "notes.txt"
    other.write_text("these are notes, not requests")
    with pytest.raises(BadData, match=r"notes\.txt holds no captured requests"):
        parts_of([str(other)], "fraud", metadata, None)
    assert ModelName.parse("fraud") == ModelName("fraud", "")


def test_a_missing_file_is_not_a_model(tmp_path: Path) -> None:
    check_files(["fraud:1", "fraud.v2", str(tmp_path)])
    for text in ("nothing.parquet", f"{tmp_path}/captures"):
        with pytest.raises(BadData, match=f"there is no file or folder '{text}'"):
            check_files([str(tmp_path), text])


def test_a_terminal_sees_how_far_a_replay_is_its_rate_and_the_time_left() -> None:
    out, now, read = Terminal(), iter([0.0, 0.1, 0.6]), ReadCounts(total=1000)
    progress = ReplayProgress(read, out, lambda: next(now))
    progress.advance(0, 0, 0.0)
    read.size = 250
    progress.advance(5, 0, 1.0)  # too soon
    progress.advance(500, 2, 10.0)
    progress.close()
    shown = out.getvalue().split("\r\x1b[K")[1:]
    assert shown == [
        "▕" + " " * 30 + "▏ 0 requests, 0/s, 0 failed, time left unknown",
        "▕" + "━" * 7 + " " * 23 + "▏ 500 requests, 50/s, 2 failed, 0:00:30 left",
        "",
    ]
    assert time_left(0.5, 7322) == "2:02:02 left"


def test_a_file_gets_no_progress_of_a_replay() -> None:
    out = io.StringIO()
    progress = ReplayProgress(ReadCounts(), out)
    progress.advance(1, 1, 1.0)
    progress.close()
    assert out.getvalue() == ""
