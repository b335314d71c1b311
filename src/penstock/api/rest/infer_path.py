"""The paths of infer requests of the V2 REST protocol: the model and version in them."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from penstock.serving.routing_table import Target

MAX_TARGETS: Final = 4096
"""Maximum number of cached infer paths."""

_INFER: Final = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer/?")


@lru_cache(maxsize=MAX_TARGETS)
def infer_target(path: bytes) -> Target | None:
    """Return the model and version in an infer path, None for any other path."""
    match = _INFER.fullmatch(path)
    return None if match is None else (decode_segment(match.group(1)), decode_segment(match.group(2) or b""))


def decode_segment(segment: bytes) -> str:
    """Return a percent-encoded segment of a path as text."""
    return unquote_to_bytes(segment).decode("utf-8", "replace")
