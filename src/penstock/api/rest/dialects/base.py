"""What a dialect is: its paths, how its bodies become tensors, and how outputs and faults become its answers."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.work import INLINE_BYTES, RequestWork
from penstock.api.http1.answers import error_body
from penstock.core.errors import Fault, InvalidInput
from penstock.core.frames.frame import Frame
from penstock.core.frames.layout import BoundRows, RowLayout
from penstock.core.frames.terms import DefaultedColumn
from penstock.core.labels import HTTP_STATUS
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensor
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, Servable
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.routing_table import Fields, Target

JSON: Final = b"application/json"

Endpoint = Callable[[Request], Awaitable[Response]]
"""Answers a request that is not a prediction."""


class UnsupportedMediaType(InvalidInput):
    """The body has a type that the dialect does not read (415); metrics count it as 400."""


class NotAcceptable(InvalidInput):
    """The client accepts no type that the dialect writes (406); metrics count it as 400."""


@dataclass(frozen=True, slots=True)
class InferPath:
    """A path of predictions: ``endpoint`` is its key in ``core.access.endpoints.DIALECTS``, method and path, in which
    ``{model}``, ``{version}`` and ``{label}`` stand for one segment each. ``verb`` is what the dialect is asked for."""

    endpoint: str
    verb: str = "predict"


@dataclass(frozen=True, slots=True)
class DialectSetup:
    """What all dialects of a worker are built from: ``names`` are those that are on, in order, ``default_model`` the
    model of paths that name none ("": the only one served), ``version`` that of Penstock, ``options`` those of each
    dialect by its name."""

    plane: DataPlane
    names: tuple[str, ...]
    default_model: str
    version: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(slots=True)  # each request makes one, and frozen ones take three times as long
class RowsRequest:
    """The body of a request, inflated, and the version that it is for."""

    verb: str
    fields: Fields
    query: bytes
    body: bytes
    loaded: Servable
    work: RequestWork

    @property
    def layout(self) -> RowLayout:
        """Return how rows become the inputs of the version."""
        return self.loaded.row_layout

    @property
    def signature(self) -> Signature:
        """Return the signature of the version."""
        return self.loaded.signature

    def bind_instances(self, instances: Sequence[Any]) -> "RowsBody":
        """Return rows as the inputs of the version; see ``RowLayout.bind_instances``."""
        return self._bound(self.layout.bind_instances(instances, self.work.pause))

    def bind_values(self, values: Any) -> "RowsBody":
        """Return columns as the inputs of the version; see ``RowLayout.bind_values``."""
        return self._bound(self.layout.bind_values(values, self.work.pause))

    def bind_frame(self, frame: Frame) -> "RowsBody":
        """Return a frame as the inputs of the version; see ``RowLayout.bind_frame``."""
        return self._bound(self.layout.bind_frame(frame, self.work.pause))

    def bind_array(self, values: Array) -> "RowsBody":
        """Return an array as the only input of the version; see ``RowLayout.bind_array``."""
        return self._bound(self.layout.bind_array(values))

    def _bound(self, rows: BoundRows) -> "RowsBody":
        for tensor in rows.inputs:
            if tensor.datatype == "BYTES":
                self.work.texts(tensor.name, tensor.data.size)
                self.work.text_bytes(tensor.name, tensor.text_bytes)
        return RowsBody(rows.inputs, defaulted=rows.defaulted)


@dataclass(slots=True)  # each request makes one, and frozen ones take three times as long
class RowsBody:
    """A decoded request: its tensors, or the bytes of one row (see ``Signature.row``). ``form`` is what ``encode``
    needs to know of the request; ``defaulted`` says where defaults of the model card stand in for missing values.
    ``explanation`` are the parameters of an explanation, which is asked for instead of a prediction."""

    inputs: list[Tensor] | bytes
    form: object = None
    requested: list[RequestedOutput] | None = None
    timeout_ns: int | None = None
    id: str = ""
    defaulted: tuple[DefaultedColumn, ...] = ()
    explanation: dict[str, Any] | None = None

    def in_form(self, form: object) -> "RowsBody":
        """Return the same request in a form."""
        return replace(self, form=form)


@dataclass(slots=True)  # each request makes one, and frozen ones take three times as long
class RowsAnswer:
    """A successful answer: its content and what follows it, the type of both, and more fields, each with its end of
    line."""

    content: bytes = b""
    tail: Sequence[bytes | memoryview] = ()
    kind: bytes = JSON
    lines: bytes = b""

    @classmethod
    def of_parts(cls, parts: Sequence[bytes], kind: bytes = JSON) -> "RowsAnswer":
        """Return the answer of these parts, joined where they are short."""
        return cls(b"", parts, kind) if sum(map(len, parts)) > INLINE_BYTES else cls(b"".join(parts), (), kind)


@dataclass(frozen=True, slots=True)
class FaultAnswer:
    """The answer to a request that failed."""

    status: int
    body: bytes
    kind: bytes = JSON


class Dialect(ABC):
    """A protocol. ``read`` and ``encode`` run on the event loop for short work and decline long work there by
    ``LargeWork``; then they run again on a thread, with pauses between slices (``RequestWork``)."""

    name: ClassVar[str]
    infer_paths: ClassVar[tuple[InferPath, ...]]

    def __init__(self, setup: DialectSetup) -> None:
        self.setup = setup

    def path_of(self, endpoint: str) -> str:
        """Return the path of an endpoint, where a setting may state another than its key."""
        return endpoint.partition(" ")[2]

    def find_target(self, verb: str, values: Mapping[str, str], fields: Fields) -> Target:
        """Return the model ("": the default model) and the version or alias ("": the route decides) of a request, from
        the segments of its path; raises ``Fault``."""
        return values.get("model", ""), values.get("version", values.get("label", ""))

    @abstractmethod
    def read(self, request: RowsRequest) -> RowsBody:
        """Decode a body; bodies over ``INLINE_ROWS`` bytes only on a thread.

        Raises:
            Fault: the body is not what the dialect or the version takes.
            LargeWork: it has to be decoded on a thread.
        """

    @abstractmethod
    def encode(self, call: InferCall, verb: str, form: object, work: RequestWork) -> RowsAnswer:
        """Encode the outputs of a call.

        Raises:
            Fault: they have no form in the dialect.
            LargeWork: they have to be encoded on a thread.
        """

    def fault(self, fault: Fault) -> FaultAnswer:
        """Return the answer for an error: by default that of V2."""
        return FaultAnswer(status_of(fault), error_body(str(fault)))

    def accepts_binary(self, fields: Fields) -> bool:
        """Whether a body is binary, so that ``limits.max_body_bytes`` bounds it, and not ``limits.max_json_bytes``."""
        return False

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return what answers all other requests, by their keys in ``core.access.endpoints.DIALECTS``."""
        return {}


def status_of(fault: Fault) -> int:
    """Return the HTTP status of a fault."""
    if isinstance(fault, UnsupportedMediaType):
        return 415
    return 406 if isinstance(fault, NotAcceptable) else HTTP_STATUS[fault.kind]
