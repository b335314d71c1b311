"""Selects the captured requests that can be sent again, and counts the others by their reason."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from penstock.monitor.capture import CapturedRequest


def select_requests(
    records: Iterable[CapturedRequest], inputs: Collection[str], skipped: Counter[str]
) -> Iterator[CapturedRequest]:
    """Yield the records that hold every one of a model's ``inputs`` as it came; count the others in ``skipped``."""
    for record in records:
        if reason := _why_not(record, inputs):
            skipped[reason] += 1
        else:
            yield record


def _why_not(record: CapturedRequest, inputs: Collection[str]) -> str:
    """Return why a record cannot be sent again, "" if it can."""
    if "inputs" in record.head.get("masked", ()):
        return "inputs are masked"
    held = {entry["name"] for entry in record.head["tensors"] if entry["side"] == "inputs"}
    return "inputs are missing" if held != set(inputs) else ""
