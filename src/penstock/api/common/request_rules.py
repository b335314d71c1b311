"""Rules of the protocol's requests that are the same in JSON and protobuf: parameters, outputs and shared memory."""

from collections.abc import Iterable
from typing import Any, Final

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.core.texts import shorten
from penstock.serving.shared_memory import RegionSpan, SharedRegions

MAX_PARAMETERS: Final = 1000
"""Maximum number of parameters of a request, an input or an output."""

RESERVED: Final = "triton_"
"""Prefix of parameters that callers must not send."""


def check_parameters(names: Iterable[str], count: int, allowed: str = "") -> None:
    """Raise ``InvalidInput`` for too many request parameters, and for a reserved name other than ``allowed``."""
    if count > MAX_PARAMETERS:
        raise InvalidInput(f"the request has {count} parameters; at most {MAX_PARAMETERS} are taken")
    for name in names:
        if name.startswith(RESERVED) and name != allowed:
            raise InvalidInput(f"parameter '{name[:64]}' has a reserved name; '{RESERVED}' is not for requests")


def timeout_ns(stated: Any) -> int | None:
    """Return the request parameter ``timeout`` (microseconds, 0 = none) in nanoseconds; raises ``InvalidInput``."""
    if type(stated) is not int or stated < 0:
        raise InvalidInput("the parameter 'timeout' must be a whole number of microseconds")
    return stated * 1000 or None


def parse_class_count(name: str, stated: Any) -> int:
    """Return the number of classes requested for an output, 0 for its values; raises ``InvalidInput``."""
    if type(stated) is not int or stated < 0:
        raise InvalidInput(f"classification of output '{shorten(name)}' must be a whole number of classes")
    return stated


def find_span(
    name: str, region: Any, offset: Any, size: Any, elsewhere: bool, regions: SharedRegions, owner: str
) -> RegionSpan:
    """The part of shared memory that a tensor's parameters name; ``elsewhere`` says that they also name another place
    or form, and ``owner`` is the caller, who uses no regions of others.

    Raises:
        InvalidInput: the parameters are not what they must be, or there is no such region.
        Unsupported: shared memory is off.
        TooLarge: no tensor may have so many bytes.
    """
    regions.path_or_raise()
    if type(region) is not str or type(offset) is not int or type(size) is not int:
        raise InvalidInput(f"the shared memory of '{shorten(name)}' needs a region and a number of bytes")
    if elsewhere:
        raise InvalidInput(f"'{shorten(name)}' is requested in shared memory and in another form; request one of them")
    return regions.span(region, offset, size, owner)


class NameCheck:
    """The names of a request's inputs or outputs as they are read: each once, and each one the model has.

    So a request is refused at the first name too many, however long its list is.
    """

    __slots__ = ("_seen", "_signature")

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._seen: set[str] = set()

    def input(self, name: str) -> None:
        """The next input; raises ``InvalidInput``."""
        if name in self._seen:
            raise InvalidInput(f"input '{shorten(name)}' is given 2 times; expected it once")
        self._seen.add(name)

    def output(self, name: str) -> None:
        """The next output that is asked for; raises ``InvalidInput``."""
        if name in self._seen:
            raise InvalidInput(f"output '{shorten(name)}' is requested twice")
        self._signature.output(name)
        self._seen.add(name)
