"""Gamma functions of arrays and quantiles, as far as tests over counts need them."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RAISED = 8.0
_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2

NINETY_NINE = 2.3263478740408408
"""The 0.99 quantile of the normal distribution."""


def log_gamma_ratio(base: Floats, more: Floats) -> Floats:
    """``ln Gamma(base + more) - ln Gamma(base)``, element by element, for ``base`` > 0; good to 1e-9."""
    return np.asarray(log_gamma(base + more) - log_gamma(base), float)


def log_gamma(x: Floats) -> Floats:
    """``ln Gamma(x)`` for ``x`` > 0: Stirling's series at arguments that the recurrence has raised by eight."""
    ends = x * (x + 7)  # (x + 1)(x + 6) is 6 more, (x + 2)(x + 5) 10, (x + 3)(x + 4) 12
    low = ends * (ends + 6) * (ends + 10) * (ends + 12)
    raised = x + _RAISED
    item = 1 / raised
    two = item * item
    series = item * (1 / 12 - two * (1 / 360 - two / 1260))
    return np.asarray((raised - 0.5) * np.log(raised) - raised + series + _HALF_LOG_TWO_PI - np.log(low), float)


def chi_square_quantile(degrees: float, z: float = NINETY_NINE) -> float:
    """A quantile of the chi-square distribution (Wilson and Hilferty 1931), within three per cent; ``z`` is the
    normal distribution's."""
    a = 2 / (9 * degrees)
    return float(degrees * max(0.0, 1 - a + z * math.sqrt(a)) ** 3)
