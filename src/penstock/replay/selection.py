"""Selects the captured requests that can be sent again, and counts the others by their reason."""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from penstock.monitor.capture import CapturedRequest
from penstock.monitor.capture_parts import time_of

REMEMBERED: Final = 1 << 16
"""Requests among which one is found again: in the order of time, the same request of two files comes twice in a row."""

TWICE: Final = "it is in several files"
"""Why the second one of the same request is not sent."""


def select_requests(
    records: Iterable[CapturedRequest], inputs: Collection[str], skipped: Counter[str]
) -> Iterator[CapturedRequest]:
    """Yield the records that hold every one of a model's ``inputs`` as it came, each request once; count the others in
    ``skipped``."""
    seen = _RecentRequests()
    for record in records:
        if reason := _why_not(record, inputs) or (TWICE if seen.has(record) else ""):
            skipped[reason] += 1
        else:
            yield record


def _why_not(record: CapturedRequest, inputs: Collection[str]) -> str:
    """Return why a record cannot be sent again, "" if it can."""
    if "inputs" in record.head.get("masked", ()):
        return "inputs are masked"
    held = {entry["name"] for entry in record.head["tensors"] if entry["side"] == "inputs"}
    return "inputs are missing" if held != set(inputs) else ""


class _RecentRequests:
    """Finds the same request again: captures of several files may overlap."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[str, float], None] = OrderedDict()

    def has(self, record: CapturedRequest) -> bool:
        """Whether a request of this id and time came before; it is remembered."""
        key = record.id, time_of(record)
        if not record.id or key in self._keys:
            return bool(record.id)
        self._keys[key] = None
        if len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)
        return False
