"""Media types of bodies (``content-type``) and of what a client takes (``accept``), as RFC 9110 has them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from penstock.core.errors import InvalidInput

MAX_LENGTH: Final = 1024
"""Most bytes of a field that is read."""

_TYPE: Final = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;|$)")
_PARAMETER: Final = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))\s*(?:;|$)')
_RANGE: Final = re.compile(r"\s*([^;,\s]+)\s*((?:;[^,]*)?)")
_QUALITY: Final = re.compile(r";\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_MOST_RANGES: Final = 32


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type in small letters, and its parameters by name."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def read_media_type(value: bytes) -> MediaType:
    """Return the type that ``content-type`` states.

    Raises:
        InvalidInput: it is not a media type.
    """
    if len(value) > MAX_LENGTH:
        raise InvalidInput(f"content-type has more than {MAX_LENGTH} characters")
    return _read(value)


@lru_cache(maxsize=256)
def _read(value: bytes) -> MediaType:
    text = value.decode("latin-1")
    match = _TYPE.match(text)
    if match is None:
        raise InvalidInput("content-type is not a media type such as application/json")
    return MediaType(match[1].lower(), _parse_parameters(text[match.end() :]))


def _parse_parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        match = _PARAMETER.match(text, at)
        if match is None:
            raise InvalidInput("content-type has a parameter that is not of the form name=value")
        found[match[1].lower()] = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        at = match.end()
    return found


def choose_type(accept: bytes, offered: Sequence[str]) -> str:
    """Return which of the offered types, those preferred by the server first, a client likes best; "" if it takes none.
    Without a field, or with one that is too long to be read, it takes any."""
    if len(accept) > MAX_LENGTH or not accept.strip():
        return offered[0]
    return _choose(accept, tuple(offered))


@lru_cache(maxsize=256)
def _choose(accept: bytes, offered: tuple[str, ...]) -> str:
    ranges = _parse_ranges(accept.decode("latin-1"))
    best = max(offered, key=lambda name: (_find_quality(name, ranges), -offered.index(name)))
    return best if _find_quality(best, ranges) > 0 else ""


def _parse_ranges(text: str) -> dict[str, float]:
    """Return the quality of each media range; of the types' own parameters nothing is looked at."""
    found: dict[str, float] = {}
    for item in text.split(",")[:_MOST_RANGES]:
        match = _RANGE.match(item)
        if match is not None:
            quality = _QUALITY.search(match[2])
            found[match[1].lower()] = 1.0 if quality is None else float(quality[1])
    return found


def _find_quality(name: str, ranges: Mapping[str, float]) -> float:
    """Return how much a client likes a type: what the most specific range says."""
    for candidate in (name, f"{name.partition('/')[0]}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0
