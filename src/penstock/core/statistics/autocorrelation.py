"""What autocorrelation takes from the worth of rows."""

MOST = 0.98
"""Greater correlations are taken for this one."""


def variance_inflation(correlation: float) -> float:
    """How many rows are worth one when neighbours correlate so.

    The variance of their mean over that of independent rows, for an autoregression of first order.
    """
    bounded = min(MOST, max(0.0, correlation))
    return (1 + bounded) / (1 - bounded)
