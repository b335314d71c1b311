"""Writes PromQL: texts, selectors, and the shapes of expression that several rules and panels share."""

import json
from collections.abc import Iterable

from penstock.telemetry.metric import PREFIX, Metric


def quote(text: str) -> str:
    """Return a text as a PromQL string; PromQL takes Go's escapes, of which JSON's are some."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", r"\u007f")


def select(metric: Metric, *matchers: str, suffix: str = "", window: str = "") -> str:
    """Return a selector of a metric's series; ``suffix`` is that of a histogram's series (``_bucket``)."""
    return select_name(PREFIX + metric.name + suffix, *matchers, window=window)


def select_name(name: str, *matchers: str, window: str = "") -> str:
    """Return a selector of series by their name, over a window of time such as ``5m``."""
    inner = f"{{{','.join(matchers)}}}" if matchers else ""
    return f"{name}{inner}" + (f"[{window}]" if window else "")


def make_matcher(label: str, value: str) -> str:
    """Return the matcher of one value of a label."""
    return f"{label}={quote(value)}"


def one_of(label: str, values: Iterable[str]) -> str:
    """Return the matcher of some values of a label, which have no characters of regular expressions."""
    return f"{label}=~{quote('|'.join(sorted(values)))}"


def none_of(label: str, values: Iterable[str]) -> str:
    """Return the matcher of all values of a label but some, which have no characters of regular expressions."""
    return f"{label}!~{quote('|'.join(sorted(values)))}"


def sum_by(labels: str, expression: str) -> str:
    """Return the sum of series over all labels but these, which are separated by commas."""
    return f"sum by ({labels}) ({expression})"


def max_by(labels: str, expression: str) -> str:
    """Return the largest of series with the same values of these labels."""
    return f"max by ({labels}) ({expression})"


def rate_by(labels: str, counter: str) -> str:
    """Return the rate of a counter a second; ``counter`` is a selector with a window."""
    return sum_by(labels, f"rate({counter})")


def increase_by(labels: str, counter: str) -> str:
    """Return the increase of a counter over the window of its selector; it counts from the first value of a series."""
    return sum_by(labels, f"increase({counter})")


def change(counter: str, window: str) -> str:
    """Return the selector of a counter whose difference over a window is exact, also if the series is new in it.

    ``increase()`` takes no notice of the first value of a series, so it would miss a rare event that begins one.
    """
    return f"({counter} - ({counter} offset {window} or {counter} * 0) > 0)"
