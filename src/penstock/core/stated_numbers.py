"""Numbers in documents of users: one test of their type and bounds, and one sentence that says what is expected."""

import math
from typing import Any


def number_fault(path: str, value: Any, least: float, most: float = math.inf, *, whole: bool = False) -> str:
    """Return why a value is not a finite number from ``least`` to ``most``, "" if it is; ``true`` is not a number.

    ``path`` is the field as its author knows it: ``triggers[0].for_seconds``.
    """
    is_number = type(value) is int or (type(value) is float and not whole and math.isfinite(value))
    if is_number and least <= value <= most:
        return ""
    return f"'{path}' must be {'a whole number' if whole else 'a number'}{_bounds_text(least, most)}"


def _bounds_text(least: float, most: float) -> str:
    if not math.isfinite(most):
        return f", at least {_format_bound(least)}" if math.isfinite(least) else ""
    return f" from {_format_bound(least)} to {_format_bound(most)}"


def _format_bound(bound: float) -> str:
    """Return a bound with all its digits: 2592000, not 2.592e+06."""
    return f"{bound:.15g}"
