"""The index of a full segment: every key's places, whether few or many are looked for, and a file that is cut off."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.monitor.answer_index import FEW_KEYS, STEP, AnswerIndex

KEYS = st.lists(st.integers(1, 40), min_size=1, max_size=6 * STEP)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS, st.lists(st.integers(0, 42), min_size=1, max_size=20))
def test_every_key_is_found_at_all_its_places(tmp_path: Path, present: list[int], wanted: list[int]) -> None:
    keys = np.array(present, np.uint64)
    index = AnswerIndex.make(tmp_path / "x.index", keys)
    expected = {
        item: [place for place, key in enumerate(present) if key == number]
        for item, number in enumerate(wanted)
        if number in present
    }
    for asked in (wanted, wanted + [43] * FEW_KEYS):
        found = index.places(np.array(asked, np.uint64))
        assert {item: places.tolist() for item, places in found.items()} == expected


def test_one_that_is_cut_off_while_it_is_used_is_said(tmp_path: Path) -> None:
    path, keys = tmp_path / "x.index", np.arange(1, 1000, dtype=np.uint64)
    index = AnswerIndex.make(path, keys)
    os.truncate(path, 12)
    with pytest.raises(OSError, match="is incomplete"):
        index.places(keys[-1:])
    with pytest.raises(OSError, match="is incomplete"):
        AnswerIndex(path, len(keys))
