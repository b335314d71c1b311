"""Captured requests are found by their id, the newest first, and become V2 requests again."""

from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import NotFound, Refused, TooLarge, Unsupported
from penstock.core.tensors import Tensor
from penstock.monitor import captured_request
from penstock.monitor.answers import prefix_of
from penstock.monitor.capture import SUFFIX, packed_request
from penstock.monitor.captured_request import find_captured, request_document

FLOATS = Tensor("x", "FP32", np.array([[1.5, np.nan]], np.float32))
TEXTS = Tensor("t", "BYTES", np.array([["ä"]], object))


def write(folder: Path, version: str, stamp: int, *records: bytes) -> None:
    name = f"{prefix_of('m')}@{version}@{stamp:020d}-1{SUFFIX}"
    (folder / name).write_bytes(b"".join(records))


def record(request_id: str, *tensors: Tensor, **head: object) -> bytes:
    sides = [("inputs", tensor) for tensor in tensors or (FLOATS,)]
    outputs = ("outputs", Tensor("y", "FP32", np.zeros((1, 1), np.float32)))
    return packed_request({"id": request_id, "at": 1.0, **head}, [*sides, outputs]).pack()


def test_the_newest_request_with_the_id_is_found_with_its_version(tmp_path: Path) -> None:
    write(tmp_path, "1", 1, record("a"), record("b"), record("a", FLOATS, TEXTS))
    write(tmp_path, "2", 2, record("a"), record("c"))
    assert find_captured(tmp_path, "m", "", "a")[0] == "2"
    version, found = find_captured(tmp_path, "m", "1", "a")
    assert version == "1"
    assert request_document(found, {"seed": 1}) == {
        "id": "a",
        "parameters": {"seed": 1},
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, None]},
            {"name": "t", "datatype": "BYTES", "shape": [1, 1], "data": ["ä"]},
        ],
    }
    with pytest.raises(NotFound, match=r"capture\.sample"):
        find_captured(tmp_path, "m", "", "d")
    with pytest.raises(NotFound):
        find_captured(tmp_path, "other", "", "a")


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "1", 1, record("a"))
    monkeypatch.setattr(captured_request, "MOST_SEARCHED_BYTES", 10)
    with pytest.raises(TooLarge):
        find_captured(tmp_path, "m", "", "a")


def test_what_is_masked_or_has_no_form_in_json_is_refused(tmp_path: Path) -> None:
    half = Tensor("h", "FP16", np.zeros((1, 1), np.float16))
    write(tmp_path, "1", 1, record("masked", masked=["inputs"]), record("half", half))
    with pytest.raises(Refused, match="masked"):
        request_document(find_captured(tmp_path, "m", "", "masked")[1], {})
    with pytest.raises(Unsupported, match="FP16"):
        request_document(find_captured(tmp_path, "m", "", "half")[1], {})
