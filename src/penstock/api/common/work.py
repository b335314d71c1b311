"""The work of one request in the codecs: checks the limits, and keeps long work off the event loop."""

from typing import Any, Final

from penstock.core.errors import TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.slices import PauseWork, no_pause
from penstock.core.texts import shorten

INLINE_TEXTS: Final = 2048
"""Maximum text elements to decode or encode on the event loop."""

INLINE_NUMBERS: Final = 1 << 15
"""Maximum numbers to convert one by one, or to write as text, on the event loop."""

INLINE_JSON: Final = 1 << 16
"""Maximum bytes of JSON to parse on the event loop."""

INLINE_BYTES: Final = 1 << 20
"""Maximum bytes to copy, or to examine one by one in C, on the event loop."""

INLINE_INFLATED: Final = 1 << 17
"""Maximum bytes to inflate or deflate on the event loop."""


class LargeWork(Exception):
    """A codec was called on the event loop and declines: the same call belongs on a thread, with a pause.

    It is raised before the work begins, so nothing is lost.
    """


class RequestWork:
    """The work of one request, or of one answer, so far.

    With a ``pause`` the codec runs on a thread and pauses between slices; without one it runs on the event loop and
    raises ``LargeWork`` where that would take more than about 2 ms.
    """

    __slots__ = ("_numbers", "_text_bytes", "_texts", "held", "inline", "limits", "pause")

    def __init__(self, limits: RequestLimits, pause: PauseWork | None) -> None:
        self.limits = limits
        self.inline = pause is None
        self.pause: PauseWork = pause or no_pause
        self.held: list[list[Any]] = []  # long lists of the body, to be freed in slices
        self._texts = self._text_bytes = 0
        self._numbers = 0

    def texts(self, name: str, count: int) -> None:
        """Count ``count`` more elements of BYTES tensors; raises ``TooLarge`` or ``LargeWork``."""
        self._texts += count
        most = self.limits.max_text_elements
        if self._texts > most:
            raise TooLarge(
                f"tensor '{shorten(name)}' brings the elements of BYTES tensors to {self._texts}, over the limit of "
                f"{most} (limits.max_text_elements); use fewer rows at a time"
            )
        if self.inline and self._texts > INLINE_TEXTS:
            raise LargeWork

    def text_bytes(self, name: str, size: int) -> None:
        """Count ``size`` more bytes of BYTES elements of a request; raises ``TooLarge``."""
        self._text_bytes += size
        most = self.limits.max_text_bytes
        if self._text_bytes > most:
            raise TooLarge(
                f"tensor '{shorten(name)}' brings the bytes of BYTES tensors to {self._text_bytes}, over the limit "
                f"of {most} (limits.max_text_bytes); use fewer rows or shorter texts at a time"
            )

    def add_typed(self, name: str, count: int) -> None:
        """Count ``count`` more numbers in typed lists; raises ``TooLarge`` or ``LargeWork``."""
        most = self.limits.max_elements
        if self._numbers + count > most:
            raise TooLarge(
                f"tensor '{shorten(name)}' brings the elements of typed contents to {self._numbers + count}, over "
                f"the limit of {most} (limits.max_elements); use raw contents"
            )
        self.numbers(count)

    def numbers(self, count: int) -> None:
        """Count ``count`` more numbers to convert one by one; raises ``LargeWork``."""
        self._numbers += count
        if self.inline and self._numbers > INLINE_NUMBERS:
            raise LargeWork

    def add_copied(self, size: int) -> None:
        """Count ``size`` more bytes to copy, or to examine one by one in C; raises ``LargeWork``."""
        if self.inline and size > INLINE_BYTES:
            raise LargeWork

    def add_json(self, size: int) -> None:
        """Count ``size`` more bytes of JSON to parse; raises ``TooLarge`` or ``LargeWork``."""
        if size > self.limits.max_json_bytes:
            raise json_too_large(self.limits)
        if self.inline and size > INLINE_JSON:
            raise LargeWork


def body_too_large(most: int, setting: str) -> TooLarge:
    """Return the error of a request with more bytes than ``setting`` allows, plain or inflated."""
    return TooLarge(f"the request is over the limit of {most} bytes ({setting}); send less at a time")


def json_too_large(limits: RequestLimits) -> TooLarge:
    """Return the error of a request with too much JSON."""
    return TooLarge(
        f"the JSON of the request is over the limit of {limits.max_json_bytes} bytes (limits.max_json_bytes); "
        f"send its tensors as binary data, of which a body may have {limits.max_body_bytes} bytes"
    )


def output_too_large(limits: RequestLimits) -> TooLarge:
    """Return the error of an answer that is too large."""
    return TooLarge(
        f"the answer is over the limit of {limits.max_output_bytes} bytes ({limits.max_output_setting}); "
        "ask for fewer rows or outputs"
    )
