"""The lineage and the model card of a version: which fields they have, and which values are valid."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.texts import is_readable
from penstock.core.versions import is_version

Document = dict[str, Any]

LONGEST_TEXT = 20_000
LONGEST_WORD = 500
MOST_ENTRIES = 200
MOST_BYTES = 48 << 10
"""Maximum bytes of a version's metadata as ASCII JSON: it is sent in a header."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_KEY = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_./:@ -]{0,127}")

Check = Callable[[Any], str]
"""Returns what a value should be, "" if it is valid."""


def _text_check(longest: int) -> Check:
    def check(value: Any) -> str:
        good = isinstance(value, str) and 0 < len(value) <= longest and is_readable(value)
        return "" if good else f"a text of 1 to {longest} readable characters"

    return check


def _pattern_check(pattern: re.Pattern[str], form: str) -> Check:
    return lambda value: "" if isinstance(value, str) and pattern.fullmatch(value) else form


def _check_version(value: Any) -> str:
    return "" if isinstance(value, str) and is_version(value) else "a version"


def _check_number(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return "" if good else "a number"


def _check_plain(value: Any) -> str:
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return ""
    good = isinstance(value, str) and len(value) <= LONGEST_WORD and is_readable(value)
    return "" if good else "a number, a flag or a short text"


def _check_texts(value: Any) -> str:
    good = isinstance(value, list) and 0 < len(value) <= MOST_ENTRIES and not any(map(_text_check(LONGEST_WORD), value))
    return "" if good else "a list of short texts"


def _mapping_check(inner: Check, form: str) -> Check:
    def check(value: Any) -> str:
        good = (
            isinstance(value, Mapping)
            and len(value) <= MOST_ENTRIES
            and all(isinstance(key, str) and _KEY.fullmatch(key) for key in value)
            and not any(map(inner, value.values()))
        )
        return "" if good else f"names, each with {form}"

    return check


def _check_feature(value: Any) -> str:
    """Check what a card says of one feature."""
    if not isinstance(value, Mapping):
        return _text_check(LONGEST_WORD)(value)
    fits = value.keys() <= {"description", "default"} and not _text_check(LONGEST_WORD)(value.get("description", "-"))
    default = value.get("default")
    return "" if fits and (default is None or not _check_plain(default)) else "a description and a default"


def _check_features(value: Any) -> str:
    """Check the features of a card: their names, or what it says of each."""
    if isinstance(value, list):
        good = not _check_texts(value) and all(map(_KEY.fullmatch, value)) and len(set(value)) == len(value)
        return "" if good else "a list of different names"
    form = "what it means, or a description and a default"
    return _mapping_check(_check_feature, form)(value)


_CARD: Mapping[str, Check] = {
    "summary": _text_check(LONGEST_TEXT),
    "intended_use": _text_check(LONGEST_TEXT),
    "limitations": _text_check(LONGEST_TEXT),
    "training_data": _text_check(LONGEST_TEXT),
    "evaluation": _text_check(LONGEST_TEXT),
    "ethics": _text_check(LONGEST_TEXT),
    "owners": _check_texts,
    "license": _text_check(LONGEST_WORD),
    "contact": _text_check(LONGEST_WORD),
    "features": _check_features,
}

_METADATA: Mapping[str, Check] = {
    "data_digest": _pattern_check(_DIGEST, "sha256: and 64 hex digits"),
    "code_commit": _pattern_check(_COMMIT, "7 to 64 hex digits"),
    "parent": _check_version,
    "source": _text_check(LONGEST_WORD),
    "parameters": _mapping_check(_check_plain, "a number, a flag or a short text"),
    "metrics": _mapping_check(_check_number, "a number"),
    "frameworks": _mapping_check(_text_check(LONGEST_WORD), "its version"),
    "tags": _mapping_check(_check_plain, "a number, a flag or a short text"),
    "card": lambda value: "" if isinstance(value, Mapping) else "a model card",
}

_GROUPS = ("parameters", "metrics", "frameworks", "tags")


def metadata_of(document: Mapping[str, Any]) -> Document:
    """Return a version's metadata after a check.

    Raises:
        InvalidInput: with every fault.
    """
    metadata = _check_document(document, _METADATA, "metadata")
    if "card" in metadata:
        metadata["card"] = card_of(metadata["card"])
    if len(json.dumps(metadata)) > MOST_BYTES:
        raise InvalidInput(f"metadata and card together are longer than {MOST_BYTES} bytes of JSON")
    return metadata


def card_of(document: Mapping[str, Any]) -> Document:
    """Return a model card after a check; it needs a summary.

    Raises:
        InvalidInput: with every fault.
    """
    if "summary" not in document:
        raise InvalidInput("the model card has no summary")
    return _check_document(document, _CARD, "the model card")


def card_features(card: Any) -> tuple[str, ...]:
    """Return the features in a model card, in order; none if it names none, or is not a card."""
    features = card.get("features") if isinstance(card, Mapping) else None
    if not isinstance(features, Mapping | list):
        return ()
    return tuple(name for name in features if isinstance(name, str))


def metadata_of_pairs(pairs: Mapping[str, str]) -> Document:
    """Parse metadata from pairs such as ``parameters.depth`` = ``4``; a key that is not a field becomes a tag.

    Raises:
        InvalidInput: with every fault.
    """
    document: Document = {}
    for key, word in pairs.items():
        group, _, rest = key.partition(".")
        if group in _GROUPS and rest:
            document.setdefault(group, {})[rest] = word if group == "frameworks" else _parse_value(word)
        elif key in _METADATA and key not in (*_GROUPS, "card"):
            document[key] = word
        else:
            document.setdefault("tags", {})[key] = _parse_value(word)
    return metadata_of(document)


def _parse_value(word: str) -> Any:
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        return number if math.isfinite(number) else word
    return word


def _check_document(document: Mapping[str, Any], fields: Mapping[str, Check], what: str) -> Document:
    faults = [f"{what} has no field '{name}'" for name in document if name not in fields]
    faults += [
        f"{name} of {what}: expected {form}"
        for name, value in document.items()
        if name in fields and (form := fields[name](value))
    ]
    if faults:
        raise InvalidInput("; ".join(str(fault)[:200] for fault in faults[:20]))
    return dict(document)
