"""Gamma functions of arrays and quantiles, as far as tests over counts need them."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STIRLING = (1 / 12, -1 / 360, 1 / 1260)
_RAISED = 8

NINETY_NINE = 2.3263478740408408
"""The 0.99 quantile of the normal distribution."""


def log_gamma_ratio(base: Floats, more: Floats) -> Floats:
    """``ln Gamma(base + more) - ln Gamma(base)``, element by element, for ``base`` > 0; good to 1e-9."""
    return np.asarray(log_gamma(base + more) - log_gamma(base), float)


def log_gamma(x: Floats) -> Floats:
    """``ln Gamma(x)`` for ``x`` > 0: Stirling's series at arguments that the recurrence has raised by eight."""
    low = x.copy()
    for step in range(1, _RAISED):
        low = low * (x + step)
    raised = x + _RAISED
    series = sum(weight / raised ** (2 * power + 1) for power, weight in enumerate(_STIRLING))
    return np.asarray((raised - 0.5) * np.log(raised) - raised + series - np.log(low), float)


def chi_square_quantile(degrees: float, z: float = NINETY_NINE) -> float:
    """A quantile of the chi-square distribution (Wilson and Hilferty 1931), within three per cent; ``z`` is the
    normal distribution's."""
    a = 2 / (9 * degrees)
    return float(degrees * max(0.0, 1 - a + z * math.sqrt(a)) ** 3)
