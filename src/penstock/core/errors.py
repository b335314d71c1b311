"""The errors of Penstock, named by meaning; transports map them to their own codes."""

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
        """Return the text for operators."""
        return self.detail or self.text


class Fault(Exception):
    """An error that is reported to a caller: one sentence that says what was expected.

    The text reaches callers as it is, so it never holds a path, a file name or a trace. ``detail`` is the whole reason
    for operators, where the text leaves something out ("" = it does not).
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail

    @property
    def full_text(self) -> str:
        """Return the whole reason, for logs and operators."""
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
    """There is no capacity now; ``retry_after_s`` says when to try again (seconds)."""

    kind = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverBudget(Overloaded):
    """A worker has no memory left: for what it holds for its callers (another worker may have some), or for the
    versions that are to be loaded."""

    kind = "over_budget"


class Unsupported(Fault):
    """A feature of the protocol that this server does not offer."""

    kind = "unsupported"


class UnsupportedEncoding(Unsupported):
    """A compression that this server does not support; the answer lists the supported ones."""


class NotReady(Fault):
    """The resource exists but cannot answer now: it is loading, failed or unloaded."""

    kind = "not_ready"


class DeadlineExceeded(Fault):
    """The deadline passed before an answer was ready."""

    kind = "deadline"


class Cancelled(Fault):
    """The caller closed the connection, so the answer is not needed."""

    kind = "cancelled"


class Conflict(Fault):
    """The change is based on an outdated state; read it again and repeat the change."""

    kind = "conflict"


class AlreadyExists(Fault):
    """The name is taken; choose another, or remove the existing one."""

    kind = "already_exists"


class Refused(Fault):
    """The request is understood, but a rule rejects it: a model not admitted, or an alias to a version that is not
    ready.
    """

    kind = "refused"


class Unauthenticated(Fault):
    """The request has no valid credential."""

    kind = "unauthenticated"


class Unauthorised(Fault):
    """The caller is known, but may not do this."""

    kind = "unauthorised"


class DataLoss(Fault):
    """Stored bytes do not match their digest, or are missing."""

    kind = "damaged"


class Internal(Fault):
    """An error of the server: a model that failed at run time, or a defect."""

    kind = "internal"


def unknown_model(model: str) -> NotFound:
    """Return the error for a model that is not served; a long name is shortened, because the caller chose it."""
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
    """Return the error for a failure of a disk or of descriptors, without a path; None for another failure."""
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
    Unauthenticated,
    Unauthorised,
)
"""Every kind of error; tests compare the transports' tables with this list."""
