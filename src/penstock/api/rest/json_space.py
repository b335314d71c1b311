"""Shortens long white space between the tokens of a large JSON text before it is split."""

import re
from typing import Final

from penstock.api.rest.json_scan import SPACE, string_end
from penstock.core.slices import BYTE_SLICE, TEXT_SLICE, PauseWork

LONG_SPACE: Final = 128
"""Minimum bytes of white space to shorten."""

_LONG: Final = re.compile(rb"[ \t\r\n]{%d,}" % LONG_SPACE)
_STRIDE: Final = 8
_PIECE: Final = _STRIDE * BYTE_SLICE
_BLANKS: Final = bytes(0x20 if byte in SPACE else 0x78 for byte in range(256))
_SAMPLES: Final = b" " * (LONG_SPACE // _STRIDE - 1)


def without_long_space(text: bytes, pause: PauseWork) -> bytes:
    """Return the text with one space for each long white space outside of strings; the meaning is the same."""
    if not _may_have_long_space(text, pause):
        return text
    parts: list[bytes] = []
    at = strings = 0
    while at < len(text):
        quote = text.find(b'"', at)
        stop = len(text) if quote < 0 else quote
        for start in range(at, stop, BYTE_SLICE):
            parts.append(_LONG.sub(b" ", text[start : min(stop, start + BYTE_SLICE)]))
            pause()
        end = string_end(text, quote, pause) if quote >= 0 else -1
        at = len(text) if end < 0 else end
        parts.append(text[stop:at])  # where a string does not end, the scan says so
        strings += 1
        if not strings % TEXT_SLICE:
            pause()
    return b"".join(parts)


def _may_have_long_space(text: bytes, pause: PauseWork) -> bool:
    """Check every eighth byte, which is much faster than checking all; a false alarm only costs time."""
    for start in range(0, len(text), _PIECE):
        if _SAMPLES in text[start : start + _PIECE + LONG_SPACE : _STRIDE].translate(_BLANKS):
            return True
        pause()
    return False
