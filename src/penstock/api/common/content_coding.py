"""Content codings of HTTP bodies: gzip and deflate, and the choice of the one that a client prefers."""

from typing import Final

from penstock.api.common import compression
from penstock.api.common.compression import DEFLATE, GZIP, NotInflatable
from penstock.api.common.parts import Parts
from penstock.core.errors import InvalidInput, TooLarge, UnsupportedEncoding
from penstock.core.slices import PauseWork, no_pause

BOM: Final = b"\xef\xbb\xbf"
"""A byte order mark, which some clients send before JSON."""

FORMATS: Final = {b"gzip": GZIP, b"x-gzip": GZIP, b"deflate": DEFLATE}
"""Content codings of bodies, by their names in lower case."""


def inflate(
    body: bytes, coding: bytes, limit: int, pause: PauseWork | None = no_pause, too_large: TooLarge | None = None
) -> bytes:
    """The plain body; counted while inflating, so that a bomb never unfolds beyond ``limit`` bytes. Without a ``pause``
    this is the event loop, and long bodies are declined.

    Raises:
        Unsupported: the coding is neither gzip nor deflate.
        InvalidInput: the body is not what the coding says, or ends early.
        TooLarge: it unfolds to more than the limit.
        LargeWork: it has to be inflated on a thread.
    """
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding not in FORMATS:
        raise UnsupportedEncoding("this content encoding is not supported; send gzip, deflate or no encoding")
    too_large = too_large or TooLarge(f"the decompressed body is over the limit of {limit} bytes; send less at a time")
    try:
        return compression.inflate(body, FORMATS[coding], too_large, limit, members=True, pause=pause)
    except NotInflatable:
        name = coding.decode()
        raise InvalidInput(f"the body is not valid {name} data, or ends before its end mark") from None


def encode_body(parts: Parts, coding: bytes, pause: PauseWork | None) -> list[bytes] | None:
    """Return a body in a coding that ``preferred_coding`` returned; see ``api.common.compression.deflate``."""
    return compression.deflate(parts, FORMATS[coding], pause)


def preferred_coding(accept_encoding: bytes) -> bytes:
    """Return the coding that an Accept-Encoding header prefers, b"" for none (RFC 9110 §12.5.3; ties go to gzip)."""
    weights: dict[bytes, float] = {}
    for item in accept_encoding.lower().split(b","):
        coding, _, parameters = item.partition(b";")
        weights[coding.strip()] = _parse_weight(parameters)
    other = weights.get(b"*", 0.0)
    ranked = [(weights.get(coding, other), coding) for coding in (b"gzip", b"deflate")]
    weight, coding = max(ranked, key=lambda pair: pair[0])
    return coding if weight > 0 and weight >= weights.get(b"identity", 0.0) else b""


def _parse_weight(parameters: bytes) -> float:
    name, _, value = parameters.strip().partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0
