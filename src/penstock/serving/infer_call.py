"""One prediction on its way through a worker."""

from collections.abc import Callable, Mapping
from itertools import count
from os import urandom
from typing import TYPE_CHECKING, Any, Final
from typing import Protocol as Interface

from penstock.core.errors import Fault, InvalidInput
from penstock.core.labels import PRIORITIES, PROTOCOL_NAMES, Priority, Protocol, Route
from penstock.core.signature import Feeds
from penstock.core.tensors import Array, Tensor
from penstock.serving.requested_outputs import RequestedOutput

if TYPE_CHECKING:
    from penstock.serving.loaded_version import LoadedVersion


class CallObserver(Interface):
    """Somebody who is told of answered calls."""

    def offer(self, call: "InferCall") -> None:
        """Take a call that is about to be answered; on the event loop, quick, and never fails."""


class BatchResult:
    """A run of several calls, each of one row, that ask for all outputs: ``arrays`` are the outputs of all, and
    ``memo`` is what encoders have made of them, so that it is made once."""

    __slots__ = ("arrays", "memo")

    def __init__(self, arrays: list[Array]) -> None:
        self.arrays = arrays
        self.memo: dict[Any, Any] = {}


class InferCall:
    """What a transport hands in and gets back; times are ``time.monotonic_ns``.

    ``outputs`` is there on success, in the order of ``requested`` (all outputs of the model when None); otherwise
    ``fault`` says what went wrong. Of a ``joint`` run it is the row at ``place``, and cut out when it is asked for.
    What is given may be the raw bytes of one row (``packed``, see ``Signature.row``), and a tensor when that is asked
    for. ``prepared`` holds the feeds (none of a packed row) and output names of a run that waits; ``observers`` are
    told once it is answered. ``rows`` are its own, ``run_rows`` those of the run that it stands for in the counts: of
    calls that were run together, the first has them all, and the others none. ``run_began`` says that its run has
    begun, so that what goes wrong from then on is the version's doing.
    """

    __slots__ = (
        "_outputs",
        "_tensors",
        "began_ns",
        "deadline_ns",
        "decoded_ns",
        "fault",
        "id",
        "joint",
        "loaded",
        "observers",
        "packed",
        "place",
        "prepared",
        "priority",
        "ran_ns",
        "requested",
        "route",
        "rows",
        "run_began",
        "run_rows",
        "series",
        "started_ns",
    )

    def __init__(
        self,
        loaded: "LoadedVersion",
        route: Route,
        protocol: Protocol,
        call_id: str,
        given: list[Tensor] | bytes,
        requested: list[RequestedOutput] | None,
        deadline_ns: int,
        began_ns: int,
        observers: tuple[CallObserver, ...] = (),
        priority: Priority = Priority.DEFAULT,
    ) -> None:
        self.loaded = loaded
        self.route = route
        self.series = route * len(PROTOCOL_NAMES) + protocol
        self.id = call_id
        if type(given) is bytes:
            self.packed: bytes | None = given
            self._tensors: list[Tensor] | None = None
        else:
            self.packed = None
            self._tensors = given  # type: ignore[assignment]  # it is a list, then
        self.requested = requested
        self.deadline_ns = deadline_ns
        self.began_ns = began_ns
        self.observers = observers
        self.priority = priority
        self.decoded_ns = 0
        self.started_ns = 0
        self.ran_ns = 0
        self.rows = self.run_rows = 0
        self.run_began = False
        self._outputs: list[Tensor] | None = None
        self.joint: BatchResult | None = None
        self.place = 0
        self.prepared: tuple[Feeds, list[str]] = _UNPREPARED
        self.fault: Fault | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """What was given."""
        if self._tensors is None:
            row = self.loaded.signature.row
            self._tensors = [row.tensor(self.packed)]  # type: ignore[union-attr, arg-type]  # or it would not be packed
        return self._tensors

    @property
    def outputs(self) -> list[Tensor]:
        """What was answered."""
        if self._outputs is None:
            if self.joint is None:
                return []
            place = self.place
            self._outputs = self.loaded.tensors([array[place : place + 1] for array in self.joint.arrays])
        return self._outputs

    @outputs.setter
    def outputs(self, tensors: list[Tensor]) -> None:
        self._outputs = tensors


CLASS: Final = b"penstock-class"
"""The header, and metadata key, with a request's class."""


def priority_of(fields: Mapping[bytes, bytes]) -> Priority:
    """The class that a request's headers state.

    Raises:
        InvalidInput: there is no such class.
    """
    stated = fields.get(CLASS)
    if stated is None:
        return Priority.DEFAULT
    try:
        return PRIORITIES[stated]
    except KeyError:
        raise InvalidInput(f"{CLASS.decode()} must be one of critical, default and batch") from None


_UNPREPARED: Final[tuple[Feeds, list[str]]] = ({}, [])

OnDone = Callable[[InferCall], None]
"""Told once, on the event loop, when a call has its outputs or its fault."""


_PREFIX: Final = urandom(6).hex()
_NEXT: Final = count(1)


def new_id() -> str:
    """A request id for callers that brought none: unique to this process and its successors."""
    return f"{_PREFIX}-{next(_NEXT):x}"
