"""Removes long lists from a large JSON request without parsing them, in slices with pauses in between.

What is left, the skeleton, is short and is parsed as any request is; each list is replaced by a text that only this
process knows, and is decoded piece by piece (``json_data``). Whatever is not valid JSON is found by one of the two.
"""

import re
from os import urandom
from typing import Final

from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.slices import BYTE_SLICE, TEXT_SLICE, PauseWork
from penstock.core.tensors import MAX_RANK

MIN_LIST: Final = 2048
"""Minimum bytes of a list to remove."""

MAX_SKELETON: Final = 1 << 20
"""Maximum bytes without these lists: names, shapes, parameters and short lists."""

SPACE: Final = b" \t\r\n"
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_COMMA: Final = 0x2C
_OPEN: Final = 0x5B
_CLOSE: Final = 0x5D

_MARK: Final = urandom(12).hex().encode()
_OPENING: Final = re.compile(rb"\[[\[ \t\r\n]{0,8192}")
_INSIDE: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_ENDING: Final = b"]" + SPACE
_CLOSINGS: Final = tuple(re.compile(rb"\](?:[ \t\r\n]*+\]){%d}" % max(0, depth - 1)) for depth in range(MAX_RANK + 1))
"""So many closing brackets in a row. They begin with a plain byte, which the engine looks for much faster than for any
condition; a search never begins within such a row."""


class JsonSkeleton:
    """A JSON text without its long lists: ``text`` is the rest, ``lists`` the positions of the lists."""

    __slots__ = ("lists", "text")

    def __init__(self, text: bytes, lists: list[tuple[int, int]]) -> None:
        self.text = text
        self.lists = lists

    def place(self, value: bytes) -> int:
        """Return the number of the list that a value of the skeleton stands for, -1 for an ordinary value."""
        if len(value) < len(_MARK) + 2 or value[1 : 1 + len(_MARK)] != _MARK:
            return -1
        return int(value[1 + len(_MARK) : -1])


def make_skeleton(body: bytes, pause: PauseWork, max_texts: int) -> JsonSkeleton:
    """Remove the long lists of numbers and of texts.

    Raises:
        InvalidInput: a string or a list does not end.
        TooLarge: a list has more than ``max_texts`` texts, or what is left is longer than ``MAX_SKELETON``.
    """
    return _Scan(body, pause, max_texts).run()


class _Scan:
    """Scans a text once, from string to string: between strings are only numbers and structure."""

    __slots__ = ("_body", "_kept", "_lists", "_max_texts", "_parts", "_pause", "_size", "_steps")

    def __init__(self, body: bytes, pause: PauseWork, max_texts: int) -> None:
        self._body = body
        self._pause = pause
        self._max_texts = max_texts
        self._parts: list[bytes] = []
        self._lists: list[tuple[int, int]] = []
        self._kept = 0  # up to here everything is in the parts or taken out
        self._size = 0
        self._steps = 0

    def run(self) -> JsonSkeleton:
        body, at = self._body, 0
        while True:
            quote = body.find(b'"', at)
            stop = len(body) if quote < 0 else quote
            at = self._structure(at, stop)
            self._check_size(at)
            if quote < 0:
                break
            opening = self._list_start_before(quote)
            at = self._string(quote) if opening < 0 else self._texts(opening, quote)
        self._keep(len(body))
        return JsonSkeleton(b"".join(self._parts), self._lists)

    def _structure(self, start: int, stop: int) -> int:
        """Scan numbers and structure between two strings, and remove a long list in them; return where to continue."""
        if stop - start < MIN_LIST:
            return stop
        opening = _OPENING.search(self._body, start, stop)
        if opening is None:
            return stop
        end = self._end_of_numbers(opening.group().count(b"["), opening.end(), stop)
        if end - opening.start() >= MIN_LIST:
            self._cut(opening.start(), end)
        return stop

    def _end_of_numbers(self, depth: int, start: int, stop: int) -> int:
        """Return the end of a nested list, after as many closing brackets in a row as it began with; -1 if there is
        none, or if it is nested too deeply for a tensor. The search reads each byte at most ``MAX_RANK`` times.
        """
        if depth > MAX_RANK:
            return -1
        body, at, window = self._body, start, BYTE_SLICE // depth
        closing = _CLOSINGS[depth]
        while at < stop:
            upto = min(stop, at + window)
            match = closing.search(body, at, upto)
            if match is not None:
                return match.end()
            passed = len(body[at:upto].rstrip(_ENDING)) if upto < stop else window
            window = BYTE_SLICE // depth if passed else 2 * window  # an end may be longer than what was looked at
            at += passed
            self._pause()
        return -1

    def _list_start_before(self, quote: int) -> int:
        """Return the start of the list whose first element is the string at ``quote``; -1 if there is none."""
        body, at, start = self._body, quote - 1, -1
        while at >= self._kept:
            byte = body[at]
            if byte == _OPEN:
                start = at
            elif byte not in SPACE:
                break
            at -= 1
            self._count_step()
        return start

    def _texts(self, opening: int, quote: int) -> int:
        """Scan a list of texts, and remove it if it is long; return its end."""
        body, at = self._body, quote
        depth, count = body.count(b"[", opening, quote), 0
        while depth:
            at = self._string(at)
            count += 1
            if count > self._max_texts:
                raise TooLarge(
                    f"a list has more than {self._max_texts} texts (limits.max_text_elements); use fewer rows at a time"
                )
            if body[at : at + 2] == b',"':
                at += 1
                continue
            while depth:  # up to the next string, or the end of the list
                byte = body[at] if at < len(body) else 0
                if byte == _QUOTE:
                    break
                if byte == _CLOSE:
                    depth -= 1
                elif byte == _OPEN:
                    depth += 1
                elif byte != _COMMA and byte not in SPACE:
                    return at  # no list of texts: what it is, the parser says
                at += 1
                self._count_step()
        if at - opening >= MIN_LIST:
            self._cut(opening, at)
        return at

    def _string(self, quote: int) -> int:
        """Return the end of the string that begins at ``quote``."""
        self._count_step()
        end = string_end(self._body, quote, self._pause)
        if end < 0:
            raise InvalidInput("the request is not a valid inference request: a string in its JSON does not end")
        return end

    def _cut(self, start: int, stop: int) -> None:
        self._keep(start)
        self._parts.append(b'"%b%d"' % (_MARK, len(self._lists)))
        self._lists.append((start, stop))
        self._kept = stop

    def _keep(self, stop: int) -> None:
        self._check_size(stop)
        self._parts.append(self._body[self._kept : stop])
        self._size += stop - self._kept
        self._kept = stop

    def _check_size(self, stop: int) -> None:
        self._count_step()
        if self._size + stop - self._kept > MAX_SKELETON:
            raise TooLarge(
                f"the request has more than {MAX_SKELETON} bytes of JSON beside the data of its inputs; "
                "use fewer parameters, or binary data"
            )

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps >= TEXT_SLICE:
            self._steps = 0
            self._pause()


def string_end(body: bytes, quote: int, pause: PauseWork) -> int:
    """Return the end of a JSON string, after its closing quote; -1 without one. Pauses after each slice of a string
    with escapes.
    """
    at = quote + 1
    end = body.find(b'"', at)
    if end < 0 or body[end - 1] != _BACKSLASH:
        return -1 if end < 0 else end + 1
    while at < len(body):
        match = _INSIDE.match(body, at, at + BYTE_SLICE)
        end = at if match is None else match.end()
        if end == at:
            return end + 1 if body[end] == _QUOTE else -1
        at = end
        pause()
    return -1
