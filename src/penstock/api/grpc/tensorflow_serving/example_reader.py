"""Reads the examples of a ClassificationRequest or a RegressionRequest without a parser: only the features that a model
takes, in slices. Parsing a map of very many features would hold the GIL for seconds.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from penstock.api.common.tensorflow_rules import MAX_EXAMPLES, Example, merge_context
from penstock.api.common.work import INLINE_NUMBERS, LargeWork, RequestWork
from penstock.api.grpc.typed_contents import unpack_varints
from penstock.api.grpc.wire import Span, check_parts, not_a_request, read_field
from penstock.core.errors import TooLarge
from penstock.core.protobuf_wire import BYTES, FIXED32, VARINT
from penstock.core.slices import BYTE_SLICE, NUMBER_SLICE, TEXT_SLICE

INLINE_FIELDS: Final = 2048
"""Maximum number of fields to read on the event loop."""

_WITH_CONTEXT: Final = 2
"""The field of an Input with examples and a context; the other kind has examples alone."""

_TEXTS, _FLOATS, _INTEGERS = 1, 2, 3
"""The fields of a Feature."""

_KEY, _VALUE = 1, 2
"""The fields of an entry of a map."""


class ExampleReader:
    """The examples of one message; ``names`` are the features that are read."""

    __slots__ = ("_fields", "_message", "_names", "_numbers", "_texts", "_work")

    def __init__(self, message: bytes, names: frozenset[str], work: RequestWork) -> None:
        self._message = message
        self._names = frozenset([name.encode() for name in names])
        self._work = work
        self._fields = self._numbers = self._texts = 0

    def read(self, inputs: list[Span]) -> list[Example]:
        """Return the examples of the parts of an Input, each with the features of the context.

        Raises:
            InvalidInput: the bytes are something else, or a feature is in the context and in an example.
            TooLarge: there are more examples or values than a request may have.
            LargeWork: they have to be read on a thread.
        """
        kind, lists = self._last_kind(inputs)
        places: list[Span] = []
        context: Example = {}
        for start, stop in lists:
            for number, begin, end in self._parts(start, stop):
                if number == 1:
                    places.append((begin, end))
                    if len(places) > MAX_EXAMPLES:
                        raise TooLarge(f"the request has more than {MAX_EXAMPLES} examples; use fewer at a time")
                elif number == _WITH_CONTEXT and kind == _WITH_CONTEXT:
                    context = self._example(begin, end)
        examples: list[Example] = []
        for index, (begin, end) in enumerate(places):
            examples.append(merge_context(context, self._example(begin, end), index))
        return examples

    def _last_kind(self, inputs: list[Span]) -> tuple[int, list[Span]]:
        """Return the kind of an Input, and its parts: of several kinds the last one counts."""
        kind = 0
        lists: list[Span] = []
        for start, stop in inputs:
            for number, begin, end in self._parts(start, stop):
                if number in (1, _WITH_CONTEXT):
                    if number != kind:
                        kind, lists = number, []
                    lists.append((begin, end))
                    check_parts(len(lists))
        return kind, lists

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, begin and end of the fields of bytes of a message."""
        at = start
        while at < stop:
            number, kind, begin, at = read_field(self._message, at, stop)
            self._step()
            if kind == BYTES:
                yield number, begin, at

    def _step(self) -> None:
        self._fields += 1
        if self._work.inline:
            if self._fields > INLINE_FIELDS:
                raise LargeWork
        elif self._fields % TEXT_SLICE == 0:
            self._work.pause()

    def _example(self, start: int, stop: int) -> Example:
        found: dict[str, Any] = {}
        for number, begin, end in self._parts(start, stop):
            if number == 1:
                for entry, first, last in self._parts(begin, end):
                    if entry == 1:
                        self._read_entry(first, last, found)
        return found

    def _read_entry(self, start: int, stop: int, found: dict[str, Any]) -> None:
        name, place = b"", (stop, stop)
        for number, begin, end in self._parts(start, stop):
            if number == _KEY:
                name = self._message[begin:end]
            elif number == _VALUE:
                place = begin, end
        if name in self._names:
            values = self._feature(place[0], place[1])
            if values is not None:
                found[name.decode()] = values

    def _feature(self, start: int, stop: int) -> list[Any] | None:
        """Return the values of a feature, None if it states none; of several kinds the last one counts."""
        kind = 0
        lists: list[Span] = []
        for number, begin, end in self._parts(start, stop):
            if number in (_TEXTS, _FLOATS, _INTEGERS):
                if number != kind:
                    kind, lists = number, []
                lists.append((begin, end))
                check_parts(len(lists))
        if not kind:
            return None
        values: list[Any] = []
        for begin, end in lists:
            self._read_values(kind, begin, end, values)
        return values

    def _read_values(self, kind: int, start: int, stop: int, values: list[Any]) -> None:
        at = start
        while at < stop:
            number, wire, begin, at = read_field(self._message, at, stop)
            self._step()
            if number != 1:
                continue
            if kind == _TEXTS:
                self._add_text(wire, begin, at, values)
            elif kind == _FLOATS:
                self._add_floats(wire, begin, at, values)
            else:
                self._add_integers(wire, begin, at, values)

    def _add_text(self, wire: int, begin: int, end: int, values: list[Any]) -> None:
        if wire != BYTES:
            raise not_a_request()
        self._texts += 1
        if self._texts > self._work.limits.max_text_elements:
            raise TooLarge(
                f"the request has more than {self._work.limits.max_text_elements} texts (limits.max_text_elements); "
                "use fewer examples at a time"
            )
        values.append(self._message[begin:end])

    def _add_floats(self, wire: int, begin: int, end: int, values: list[Any]) -> None:
        if wire not in (BYTES, FIXED32) or (end - begin) % 4:
            raise not_a_request()
        self._count((end - begin) // 4)
        for at in range(begin, end, 4 * NUMBER_SLICE):
            count = min(end - at, 4 * NUMBER_SLICE) // 4
            values += np.frombuffer(self._message, "<f4", count, at).tolist()
            self._work.pause()

    def _add_integers(self, wire: int, begin: int, end: int, values: list[Any]) -> None:
        if wire not in (BYTES, VARINT):
            raise not_a_request()
        at = begin
        while at < end:
            numbers, size = unpack_varints(self._message, at, min(end, at + BYTE_SLICE // 4))
            self._count(len(numbers))
            values += numbers.view(np.int64).tolist()
            at += size
            self._work.pause()

    def _count(self, numbers: int) -> None:
        self._numbers += numbers
        if self._numbers > self._work.limits.max_elements:
            raise TooLarge(
                f"the request has more than {self._work.limits.max_elements} numbers (limits.max_elements); "
                "use fewer examples at a time"
            )
        if self._work.inline and self._numbers > INLINE_NUMBERS:
            raise LargeWork
