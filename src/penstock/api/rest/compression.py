"""Content codings of HTTP bodies: gzip and deflate, inflated no further than the limit allows."""

import zlib

from penstock.core.errors import InvalidInput, TooLarge, UnsupportedEncoding

_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
LEVEL = 1


def inflate(body: bytes, coding: bytes, limit: int) -> bytes:
    """The plain body; counted while inflating, so that a bomb never unfolds beyond ``limit`` bytes.

    Raises:
        UnsupportedEncoding: the coding is neither gzip nor deflate.
        InvalidInput: the body is not what the coding says, or ends early.
        TooLarge: it unfolds to more than the limit.
    """
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding not in _WINDOW:
        raise UnsupportedEncoding("this content encoding is not supported; send gzip, deflate or no encoding")
    parts: list[bytes] = []
    size = 0
    while body:
        engine = zlib.decompressobj(_WINDOW[coding])
        try:
            part = engine.decompress(body, limit - size + 1)
        except zlib.error:
            raise InvalidInput(f"the body is not valid {coding.decode()} data") from None
        size += len(part)
        if size > limit:
            raise TooLarge(f"the decompressed body is over the limit of {limit} bytes")
        if not engine.eof:
            raise InvalidInput(f"the {coding.decode()} body ends before its end mark")
        parts.append(part)
        body = engine.unused_data  # gzip allows several members in a row
    return b"".join(parts)


def deflated(body: bytes, coding: bytes) -> bytes:
    """The body in a coding that ``preferred`` returned."""
    engine = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW[coding])
    return engine.compress(body) + engine.flush()


def preferred(accept_encoding: bytes) -> bytes:
    """The coding an Accept-Encoding header likes best, b"" for none (RFC 9110 §12.5.3; ties go to gzip)."""
    weights: dict[bytes, float] = {}
    for item in accept_encoding.lower().split(b","):
        coding, _, parameters = item.partition(b";")
        weights[coding.strip()] = _weight(parameters)
    other = weights.get(b"*", 0.0)
    ranked = [(weights.get(coding, other), coding) for coding in (b"gzip", b"deflate")]
    weight, coding = max(ranked, key=lambda pair: pair[0])
    return coding if weight > 0 and weight >= weights.get(b"identity", 0.0) else b""


def _weight(parameters: bytes) -> float:
    name, _, value = parameters.strip().partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0
