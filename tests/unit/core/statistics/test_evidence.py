"""Evidence: means of e-values, onsets, and batches that are divided."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.statistics.evidence import (
    FROM_THE_START,
    Evidence,
    average_evidence,
    decode_evidence,
    onset_weight,
    split_batch,
    with_batch_any_onset,
)


def test_average_is_of_values_not_of_logarithms() -> None:
    assert average_evidence((0.0, math.log(9)), (0.5, 0.5)) == pytest.approx(math.log(5))
    assert average_evidence((-2000.0, 800.0), (0.5, 0.5)) == pytest.approx(800 + math.log(0.5))


def test_the_weights_of_all_onsets_sum_to_one() -> None:
    assert onset_weight(0) == 0
    assert FROM_THE_START + onset_weight(1e15) == pytest.approx(1.0)
    assert onset_weight(20_000) == pytest.approx((1 - FROM_THE_START) / 2)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20), st.floats(0.05, 0.95))
def test_evidence_of_bets_that_gain_nothing_stays_one(sizes: list[int], weight: float) -> None:
    """The weights of bets that have begun and of those that have not are one together, whatever the batches."""
    evidence = Evidence()
    for size in sizes:
        evidence = with_batch_any_onset(
            evidence, np.array([size, 0.0]), np.array([9.0, 0.0]), [0.0] * 2, (weight, 1 - weight)
        )
    assert evidence.log_e == pytest.approx(0.0, abs=1e-9)


def test_a_gain_is_weighed_by_what_had_begun() -> None:
    a, b = np.array([1000.0, 0.0]), np.array([1.0, 0.0])
    evidence = with_batch_any_onset(Evidence(), a, b, [-50.0], (1.0,))  # what bet from the first request on is lost
    assert math.exp(evidence.log_e) == pytest.approx(1 - FROM_THE_START)
    evidence = with_batch_any_onset(evidence, a, b, [math.log(100)], (1.0,))
    begun = onset_weight(1000)
    assert math.exp(evidence.log_e) == pytest.approx(100 * begun + 1 - FROM_THE_START - begun)


@given(
    st.lists(st.integers(0, 2000), min_size=2, max_size=12),
    st.lists(st.integers(0, 2000), min_size=2, max_size=12),
)
def test_the_parts_of_a_batch_are_all_of_it(a: list[int], b: list[int]) -> None:
    bins = min(len(a), len(b))
    canary, control = np.array(a[:bins], float), np.array(b[:bins], float)
    found = list(split_batch(Evidence(), canary, control))
    assert np.sum([item for item, _ in found], axis=0).tolist() == canary.tolist()
    assert np.sum([other for _, other in found], axis=0).tolist() == control.tolist()
    assert all((one >= 0).all() and (other >= 0).all() for one, other in found)
    assert [item.tolist() for item, _ in split_batch(Evidence(), canary, control)] == [
        item.tolist() for item, _ in found
    ]
    assert len(found) <= 17


def test_rows_are_dealt_to_the_parts_by_chance() -> None:
    """A part is like the whole: no bin is given away first."""
    batch = np.array([3200.0, 6400.0, 0.0])
    (first, _), *_ = split_batch(Evidence(), batch, batch)
    assert first.sum() == pytest.approx(9600 / 255, abs=20)
    assert first[0] / first.sum() == pytest.approx(1 / 3, abs=0.25)


def test_batches_of_many_sizes_are_taken_whole() -> None:
    small, fractional, huge = np.array([20.0, 5.0]), np.array([500.5, 499.5]), np.array([1e9, 1e9])
    for batch in (small, fractional, huge):
        ((one, other),) = split_batch(Evidence(), batch, batch)
        assert one.tolist() == other.tolist() == batch.tolist()


def test_evidence_of_an_earlier_form_is_taken_over() -> None:
    kept = decode_evidence(
        {"canary": [1, 2], "control": [3, 4], "log_e": 0.5, "peak": 0.7, "bets": [0.1, 0.2, 0.3, 0.4]}
    )
    assert (kept.n_canary, kept.n_control, kept.peak) == (3, 7, 0.7)
    again = with_batch_any_onset(kept, np.array([0.0, 1.0]), np.array([0.0, 1.0]), [0.0] * 5, [0.2] * 5)
    assert len(again.bets) == 5  # the bets were another test's
    assert again.n_canary == 4
