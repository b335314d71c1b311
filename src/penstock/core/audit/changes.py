"""What differs between two JSON values, by path; pure and bounded, so that a large document makes a short list."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

MOST_CHANGES: Final = 50
LONGEST_VALUE: Final = 200
DEEPEST: Final = 12

ABSENT: Final = object()
"""In place of a value that is not there."""

Change = dict[str, Any]


def list_changes(before: Any, after: Any) -> list[Change]:
    """Return what differs: each with its ``path``, and ``before`` and ``after`` as they are if short, else as cut JSON
    text; a value that is absent has no field. The last item is ``{"path": "", "more": n}`` if some are left out."""
    found = list(_find_changes("", _as_present(before), _as_present(after), 0))
    shown = [_change(*item) for item in found[:MOST_CHANGES]]
    return shown if len(found) <= MOST_CHANGES else [*shown, {"path": "", "more": len(found) - MOST_CHANGES}]


def _as_present(value: Any) -> Any:
    return ABSENT if value is None else value


def _find_changes(path: str, before: Any, after: Any, depth: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield the paths that differ, with both values."""
    parts = {} if depth >= DEEPEST else _find_parts(path, before, after)
    for below, (old, new) in parts.items():
        yield from _find_changes(below, old, new, depth + 1)
    if not parts and (type(before) is not type(after) or before != after):  # 1 and True are equal
        yield path, before, after


def _find_parts(path: str, before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """Return what two values of the same form have below them; nothing if a whole value was replaced. A mapping that
    came or went counts as one that was empty."""
    old = before if isinstance(before, Mapping) else {} if before is ABSENT else None
    new = after if isinstance(after, Mapping) else {} if after is ABSENT else None
    if old is not None and new is not None:
        names = [*old, *(name for name in new if name not in old)]
        dot = f"{path}." if path else ""
        return {f"{dot}{name}": (old.get(name, ABSENT), new.get(name, ABSENT)) for name in names}
    if isinstance(before, list) and isinstance(after, list):
        rows = range(max(len(before), len(after)))
        return {f"{path}[{row}]": (_pick_item(before, row), _pick_item(after, row)) for row in rows}
    return {}


def _pick_item(values: list[Any], row: int) -> Any:
    return values[row] if row < len(values) else ABSENT


def _change(path: str, before: Any, after: Any) -> Change:
    sides = {"before": before, "after": after}
    return {"path": path[:LONGEST_VALUE], **{name: cut(value) for name, value in sides.items() if value is not ABSENT}}


def cut(value: Any, most: int = LONGEST_VALUE) -> Any:
    """Return a value as it is if it has at most so many characters as text or JSON, else their beginning with an
    ellipsis."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return value if len(text) <= most else f"{text[:most]}…"
