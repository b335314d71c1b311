"""The faults Penstock can answer with, named by meaning; transports map them to their own codes."""

import errno
from dataclasses import dataclass
from typing import ClassVar

from penstock.core.texts import shorten


@dataclass(frozen=True, slots=True)
class FaultReason:
    """Why something cannot be: a sentence for callers, and the whole of it for operators where that leaves something
    out ("" = it does not)."""

    text: str
    detail: str = ""

    @property
    def full_text(self) -> str:
        """The text for operators."""
        return self.detail or self.text


class Fault(Exception):
    """A failure that is reported to a caller: one sentence that says what was expected.

    The text reaches callers as it is, so it never holds a path, a file name or a trace. ``detail`` is the whole reason
    for operators, where the text leaves something out ("" = it does not).
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail

    @property
    def full_text(self) -> str:
        """The whole reason, for logs and operators."""
        return self.detail or str(self)

    @property
    def reason(self) -> FaultReason:
        """The failure as a value that can be kept."""
        return FaultReason(str(self), self.detail)


class InvalidInput(Fault):
    """The request contradicts the protocol or the model's signature."""

    kind = "invalid"


class NotFound(Fault):
    """No such model, version or resource."""

    kind = "not_found"


class TooLarge(Fault):
    """The message is over the configured limit."""

    kind = "too_large"


class Overloaded(Fault):
    """There is no capacity for it now; ``retry_after_s`` says when to try again (seconds)."""

    kind = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverBudget(Overloaded):
    """The worker holds as many bytes for its callers as its memory budget allows; another worker may have memory
    left."""

    kind = "over_budget"


class Unsupported(Fault):
    """A feature of the protocol that this server does not offer."""

    kind = "unsupported"


class UnsupportedEncoding(Unsupported):
    """A compression this server does not know; the answer lists those it knows."""


class NotReady(Fault):
    """Known, but not able to answer now: loading, failed or unloaded."""

    kind = "not_ready"


class DeadlineExceeded(Fault):
    """The caller's time ran out before an answer was ready."""

    kind = "deadline"


class Cancelled(Fault):
    """The caller went away, so the answer is not needed."""

    kind = "cancelled"


class Conflict(Fault):
    """The change rests on a state that has changed; read it again and repeat the change."""

    kind = "conflict"


class AlreadyExists(Fault):
    """The name is taken; choose another, or remove what has it."""

    kind = "already_exists"


class Refused(Fault):
    """Understood, and rejected by a rule: a model not admitted, an alias onto a version that is not ready."""

    kind = "refused"


class DataLoss(Fault):
    """Stored bytes are not the ones their digest names, or are gone."""

    kind = "damaged"


class Internal(Fault):
    """The server is at fault: a model that failed at run time, or a bug."""

    kind = "internal"


def unknown_model(model: str) -> NotFound:
    """The error for a model that is not served; a long name is shortened, since the caller chose it."""
    return NotFound(f"Request for unknown model '{shorten(model)}'")


_DISK_FULL = "the disk is full; free some space and try again"
_READ_ONLY = "the folder can only be read; make it writable"
_TOO_MANY_FILES = "too many files are open; raise the limit (ulimit -n) and try again"
_STORAGE = {
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _DISK_FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EIO: "the disk reports an error; look at the system's log",
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
}


def storage_fault(error: OSError) -> NotReady | None:
    """What a failure of a disk or of descriptors means, without a path; None if it is another failure."""
    sentence = _STORAGE.get(error.errno or 0)
    return None if sentence is None else NotReady(sentence)


KINDS: tuple[type[Fault], ...] = (
    InvalidInput,
    NotFound,
    TooLarge,
    Overloaded,
    OverBudget,
    Unsupported,
    NotReady,
    DeadlineExceeded,
    Cancelled,
    Conflict,
    AlreadyExists,
    Refused,
    DataLoss,
    Internal,
)
"""Every fault there is; the transports' tables are tested against this list."""
