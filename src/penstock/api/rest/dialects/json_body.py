"""Reads JSON bodies of rows: short ones at once, long ones in slices with pauses, so that no list of any length or
depth holds the event loop.

A slice ends at a comma between two elements. Where that is, is guessed from the brackets around it and proven by the
parser: text from the start of an element up to a comma inside of a string or of a nested list is not valid JSON.
"""

import json
import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from penstock.api.common.content_coding import BOM
from penstock.api.common.work import LargeWork, RequestWork
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.frames.json_numbers import load_json
from penstock.core.slices import JSON_SLICE
from penstock.core.tensors import MAX_RANK

INLINE_ROWS: Final = JSON_SLICE
"""Maximum bytes of a body of rows to read on the event loop."""

WINDOW: Final = 2 * JSON_SLICE
"""Characters in which the end of a slice, or of a value, is looked for."""

MAX_DEPTH: Final = 2 * MAX_RANK
"""Most lists and objects around a value that is read in slices."""

MAX_MEMBERS: Final = 1 << 16
"""Most members of the objects that are read member by member, together."""

MAX_LISTS: Final = 1 << 18
"""Most lists and objects of a body: the garbage collector walks all of them at once, and they are freed at once."""

_decode = msgspec.json.Decoder().decode
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_OPENING: Final = re.compile(r"[\[ \t\r\n]*")
_BETWEEN_OBJECTS: Final = re.compile(r"\}[ \t\r\n]*(,)[ \t\r\n]*\{")
_COMMA: Final = re.compile(r"(,)")
_INSIDE: Final = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)


def read_object(body: bytes, work: RequestWork, *, tokens: bool = False) -> dict[str, Any]:
    """Return the JSON object that a body is; ``tokens`` allows NaN, Infinity and -Infinity.

    Raises:
        InvalidInput: it is not a JSON object.
        TooLarge: it has too many lists and objects, or a long object in it has too many members.
        LargeWork: it has to be read on a thread.
    """
    if work.inline and len(body) > INLINE_ROWS:
        raise LargeWork
    try:
        text = body.removeprefix(BOM).decode()
        document = parse_json(text, tokens) if len(text) <= JSON_SLICE else _Scan(text, work, tokens).run()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    if not isinstance(document, dict):
        raise InvalidInput("the body is not a JSON object")
    return document


def parse_json(text: str, tokens: bool = False) -> Any:
    """Return the value of a short JSON text; with ``tokens``, numbers beyond 64-bit floating point are of the type
    ``NumberBeyondRange``, which no input takes.

    Raises:
        InvalidInput: it is not JSON.
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        reason = str(error)
    if tokens and "\\ud" not in text.lower():  # the standard library accepts lone surrogates
        try:
            return load_json(text)
        except ValueError:
            pass
    raise InvalidInput(f"the body is not valid JSON: {reason}")


class _Scan:
    """Reads a long document from its start to its end."""

    def __init__(self, text: str, work: RequestWork, tokens: bool) -> None:
        self._text = text
        self._pause = work.pause
        self._held = work.held
        self._tokens = tokens
        self._decode_first = json.JSONDecoder().raw_decode
        self._members = 0

    def run(self) -> Any:
        """Return the document."""
        if self._text.count("[") + self._text.count("{") > MAX_LISTS:
            raise TooLarge(f"the body has more than {MAX_LISTS} lists and objects; use fewer rows at a time")
        document, end = self._value(self._skip(0), 0)
        if self._skip(end) != len(self._text):
            raise self._broken(end)
        return document

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        """Read one value of any kind, a long one in slices; return it and its end."""
        window = self._text[at : at + WINDOW]
        try:
            _, size = self._decode_first(window)
        except ValueError:
            return self._long_value(at, depth)  # it does not end in the window, or is broken
        if size == len(window):  # a number may go on
            return self._long_value(at, depth)
        return parse_json(window[:size], self._tokens), at + size

    def _long_value(self, at: int, depth: int) -> tuple[Any, int]:
        self._pause()
        if depth > MAX_DEPTH:
            raise InvalidInput("the JSON is nested too deeply")
        first = self._text[at : at + 1]
        if first == "[":
            return self._list(at, depth)
        if first == "{":
            return self._object(at, depth)
        if first == '"':
            return self._long_text(at)
        raise self._broken(at)

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        """Read the object that begins at ``at`` member by member; return it and its end."""
        found: dict[str, Any] = {}
        at = self._skip(at + 1)
        while self._text[at : at + 1] != "}":
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise TooLarge(f"the body has objects with more than {MAX_MEMBERS} members; use fewer")
            name, at = self._value(at, depth + 1)
            at = self._skip(at)
            if not isinstance(name, str) or self._text[at : at + 1] != ":":
                raise self._broken(at)
            found[name], at = self._value(self._skip(at + 1), depth + 1)
            at = self._next(at, "}")
        return found, at + 1

    def _list(self, at: int, depth: int) -> tuple[list[Any], int]:
        """Read the list that begins at ``at`` slice by slice; return it and its end."""
        found: list[Any] = []
        self._held.append(found)
        at = self._skip(at + 1)
        while self._text[at : at + 1] != "]":
            at = self._next(self._slice(at, depth, found), "]")
            self._pause()
        return found, at + 1

    def _next(self, at: int, closing: str) -> int:
        """Return where the next element or member begins, or where ``closing`` is."""
        at = self._skip(at)
        mark = self._text[at : at + 1]
        if mark == closing:
            return at
        at = self._skip(at + 1)
        if mark != "," or self._text[at : at + 1] == closing:
            raise self._broken(at)
        return at

    def _slice(self, at: int, depth: int, found: list[Any]) -> int:
        """Add some elements from ``at`` on, at least one; return the position after them."""
        cut = self._find_cut(at)
        if cut > at:
            try:
                found += parse_json(f"[{self._text[at:cut]}]", self._tokens)
                return cut
            except InvalidInput:
                pass  # the comma is inside of an element or after the list
        most = at + JSON_SLICE
        while True:
            value, at = self._value(at, depth + 1)
            found.append(value)
            after = self._skip(at)
            if at >= most or self._text[after : after + 1] != ",":
                return at
            at = self._skip(after + 1)

    def _find_cut(self, at: int) -> int:
        """Return the position of a comma that probably separates two elements, a slice further on; -1 without one."""
        text = self._text
        match = self._separator(at).search(text, at + JSON_SLICE, at + JSON_SLICE + WINDOW)
        return -1 if match is None else match.start(1)

    def _separator(self, at: int) -> re.Pattern[str]:
        opening = _OPENING.match(self._text, at, at + WINDOW)
        depth = 0 if opening is None else opening.group().count("[")
        if depth:
            return _between_lists(min(depth, MAX_RANK))
        return _BETWEEN_OBJECTS if self._text[at : at + 1] == "{" else _COMMA

    def _long_text(self, at: int) -> tuple[str, int]:
        """Read a string that does not end in the window."""
        end = at + 1
        while (match := _INSIDE.match(self._text, end, end + WINDOW)) is not None and match.end() > end:
            end = match.end()
            self._pause()
        if self._text[end : end + 1] == '"':
            return str(parse_json(self._text[at : end + 1])), end + 1
        raise InvalidInput("the body is not valid JSON: a string does not end")

    def _skip(self, at: int) -> int:
        """Return the position after white space."""
        while True:
            match = _SPACE.match(self._text, at, at + WINDOW)
            end = at if match is None else match.end()
            if end < at + WINDOW:
                return end
            self._pause()
            at = end

    def _broken(self, at: int) -> InvalidInput:
        """Return the error for text that is not JSON."""
        return InvalidInput(f"the body is not valid JSON: it is malformed near character {at}")


@lru_cache(maxsize=MAX_RANK)
def _between_lists(depth: int) -> re.Pattern[str]:
    """Return the pattern of the end of one list and the beginning of the next, each nested ``depth`` deep."""
    space = r"[ \t\r\n]*"
    return re.compile(space.join([r"\]"] * depth) + f"{space}(,){space}" + space.join([r"\["] * depth))
