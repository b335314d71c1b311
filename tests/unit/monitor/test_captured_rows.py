"""Rows of several gateways as one: each gives the newest of its own within its share, in the order of their names."""

from pathlib import Path

from penstock.core.row_shares import RowAmount
from penstock.monitor.capture import CapturedRequest
from penstock.monitor.captured_rows import ExportedRows, RowMerge


def part(folder: Path, gateway: str, rows: list[int]) -> ExportedRows:
    """A file of requests of so many rows each, as a gateway hands it over."""
    file = folder / gateway
    records = [
        CapturedRequest({"id": f"{gateway}{number}", "tensors": [{"shape": [count]}]}, b"")
        for number, count in enumerate(rows)
    ]
    packed = [record.pack() for record in records]
    file.write_bytes(b"".join([CapturedRequest({"gateway": gateway, "tensors": []}, b"").pack(), *packed]))
    return ExportedRows(gateway, file, RowAmount(sum(rows), sum(len(item) for item in packed)))


def test_gateways_come_in_the_order_of_their_names_and_each_oldest_first(tmp_path: Path) -> None:
    merge = RowMerge([part(tmp_path, "b", [1, 1]), part(tmp_path, "a", [2])], RowAmount(100, 1 << 20))
    assert merge.rows == {"a": 0, "b": 0}
    assert [record.id for record in merge.records()] == ["a0", "b0", "b1"]
    assert merge.rows == {"a": 2, "b": 2}


def test_one_that_has_much_gives_its_newest_and_what_another_leaves(tmp_path: Path) -> None:
    merge = RowMerge([part(tmp_path, "busy", [1] * 10), part(tmp_path, "calm", [1])], RowAmount(5, 1 << 20))
    assert [record.id for record in merge.records()] == ["busy6", "busy7", "busy8", "busy9", "calm0"]
    assert merge.rows == {"busy": 4, "calm": 1}


def test_a_request_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    merge = RowMerge([part(tmp_path, "a", [3, 3])], RowAmount(5, 1 << 20))
    assert [record.id for record in merge.records()] == ["a1"]
    assert merge.rows == {"a": 3}


def test_a_file_that_went_away_has_no_rows(tmp_path: Path) -> None:
    gone = part(tmp_path, "a", [1])
    gone.file.unlink()
    merge = RowMerge([gone, part(tmp_path, "b", [1])], RowAmount(5, 1 << 20))
    assert [record.id for record in merge.records()] == ["b0"]
    assert merge.rows == {"a": 0, "b": 1}
