"""One-sample tests: a share against a limit, and a split against what it should be."""

import math

import numpy as np
import pytest

from penstock.core.statistics.evidence import Evidence
from penstock.core.statistics.one_sample import ratio_mismatch, share_above, share_below


def test_one_sample_against_a_limit() -> None:
    generator = np.random.default_rng(5)
    high, low, fine = Evidence(), Evidence(), Evidence()
    for _ in range(200):
        bad = generator.binomial(10, 0.06)
        high = share_above(high, (bad, 10 - bad), 0.02)
        low = share_below(low, (bad, 10 - bad), 0.02)
        fine = share_below(fine, (0, 10), 0.02)
    assert high.log_e > math.log(100) > low.peak
    assert fine.log_e > math.log(100)


def test_a_split_that_is_not_what_it_should_be() -> None:
    generator = np.random.default_rng(6)
    sound, unsound = Evidence(), Evidence()
    for _ in range(300):
        canary = int(generator.binomial(100, 0.1))
        sound = ratio_mismatch(sound, canary, 100 - canary, 0.1)
        fewer = int(generator.binomial(100, 0.07))
        unsound = ratio_mismatch(unsound, fewer, 100 - fewer, 0.1)
    assert sound.peak < math.log(1000) < unsound.log_e


def test_the_mixture_against_a_known_split_is_the_dirichlet_multinomial() -> None:
    """By hand for one request of the canary: its prior predictive probability over the split's."""
    found = ratio_mismatch(Evidence(), 1, 0, 0.25)
    assert found.log_e == pytest.approx(0.0)  # the prior is centred on the split
    second = ratio_mismatch(found, 1, 0, 0.25)
    assert math.exp(second.log_e) == pytest.approx((25 + 1) / (100 + 1) / 0.25)
