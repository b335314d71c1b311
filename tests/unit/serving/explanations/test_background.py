"""Which live rows features are compared with."""

import numpy as np

from penstock.core.explanations import FEW_ROWS
from penstock.serving.explanations.background import prefer_complete


def test_a_few_rows_with_missing_values_spoil_no_mean() -> None:
    rows = np.ones((FEW_ROWS + 2, 3))
    rows[0, 1], rows[5, 2] = np.nan, np.inf
    assert np.array_equal(prefer_complete(rows), np.ones((FEW_ROWS, 3)))


def test_where_values_are_missing_usually_all_rows_count() -> None:
    rows = np.ones((FEW_ROWS + 2, 3))
    rows[::2, 1] = np.nan
    assert prefer_complete(rows) is rows
