"""zlib for both transports: inflates in pieces and within a limit, and deflates answers that become smaller.

zlib releases the GIL while it works, so on a thread none of this holds an event loop up.
"""

import zlib
from io import BytesIO
from typing import Final

from penstock.api.common.parts import Parts
from penstock.api.common.work import INLINE_INFLATED, LargeWork
from penstock.core.errors import TooLarge
from penstock.core.slices import PauseWork

GZIP: Final = 16 + zlib.MAX_WBITS
DEFLATE: Final = zlib.MAX_WBITS
"""Formats, by what zlib calls window bits."""

LEVEL: Final = 1
PIECE: Final = 1 << 18
"""Bytes to inflate or deflate at a time."""

INPUT_PIECE: Final = 1 << 14
"""Compressed bytes to inflate at a time; the output may be a thousand times as large."""

MAX_RATIO: Final = 1032
"""How many times as large zlib's data can become at most."""

MAX_MEMBERS: Final = 1 << 14
"""Members of one gzip body. Each takes time of its own, also if it is empty; whoever cuts a stream into blocks has one
for some 64 KiB."""

INLINE_MEMBERS: Final = 16
"""Maximum number of members to inflate on the event loop."""

WORTH: Final = 0.9
"""If the first piece does not shrink to this share, the rest is not compressed: floats hardly shrink."""


class NotInflatable(Exception):
    """The data does not match its format, or ends early."""


def inflate(
    data: bytes, format_bits: int, too_large: TooLarge, limit: int, members: bool, pause: PauseWork | None
) -> bytes:
    """Return the plain data; with ``members``, several may follow each other, as gzip allows.

    Without a ``pause``, the caller is the event loop, and long data raises ``LargeWork``.

    Raises:
        NotInflatable: it is broken.
        TooLarge: ``too_large``, as soon as there are more than ``limit`` bytes; or there are too many members.
        LargeWork: it has to be inflated on a thread.
    """
    if pause is None and len(data) > INLINE_INFLATED:  # it may inflate to nothing, and take as long
        raise LargeWork
    most = limit if pause is not None else min(limit, INLINE_INFLATED)
    found = BytesIO()
    size = begun = 0
    engine = zlib.decompressobj(format_bits)
    for start in range(0, len(data), INPUT_PIECE):
        rest, full = data[start : start + INPUT_PIECE], False
        while rest or full:
            if engine.eof:
                if not members:
                    raise NotInflatable
                begun += 1
                _check_members(begun, pause)
                engine = zlib.decompressobj(format_bits)
            space = min(PIECE, most - size + 1)
            plain, rest = _inflate_piece(engine, rest, space)
            full = len(plain) == space and not engine.eof  # the engine may hold more output
            size += len(plain)
            if size > most:
                if most < limit:
                    raise LargeWork
                raise too_large
            found.write(plain)
            if pause is not None:
                pause()
    if data and not engine.eof:
        raise NotInflatable
    return found.getvalue()


def _check_members(begun: int, pause: PauseWork | None) -> None:
    """Refuse another member after ``begun`` ones if that exceeds a limit."""
    if pause is None and begun >= INLINE_MEMBERS:
        raise LargeWork
    if begun >= MAX_MEMBERS:
        raise TooLarge(f"the body has more than {MAX_MEMBERS} gzip members; compress it as one")


def _inflate_piece(engine: "zlib._Decompress", data: bytes, most: int) -> tuple[bytes, bytes]:
    """Return the next plain bytes, at most ``most``, and the remaining data."""
    try:
        plain = engine.decompress(data, most)
    except zlib.error:
        raise NotInflatable from None
    return plain, engine.unused_data if engine.eof else engine.unconsumed_tail


def deflate(parts: Parts, format_bits: int, pause: PauseWork | None) -> list[bytes] | None:
    """Compress an answer in pieces; return None if that hardly makes it smaller.

    Without a ``pause``, the caller is the event loop, and a long answer raises ``LargeWork``.

    Raises:
        LargeWork: it has to be deflated on a thread.
    """
    whole = sum([len(part) for part in parts])
    if pause is None and whole > INLINE_INFLATED:
        raise LargeWork
    engine = zlib.compressobj(LEVEL, zlib.DEFLATED, format_bits)
    found: list[bytes] = []
    taken = given = 0
    for part in parts:
        for start in range(0, len(part), PIECE):
            piece = part[start : start + PIECE]
            found.append(engine.compress(piece))
            taken += len(piece)
            given += len(found[-1])
            if pause is not None:
                pause()
                if PIECE <= taken < whole and given > WORTH * taken:
                    return None
    found.append(engine.flush())
    return found
