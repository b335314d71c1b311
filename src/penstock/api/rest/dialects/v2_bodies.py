"""V2 bodies behind the paths of clouds: JSON, and binary tensors behind a JSON part whose length the media type states,
as Triton has it there (``application/vnd.sagemaker-triton.binary+json;json-header-size=N``)."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Final

from penstock.api.common.response_metadata import MadeOncePerVersion
from penstock.api.common.work import RequestWork
from penstock.api.rest.decode import BodyDecoder
from penstock.api.rest.dialects.base import RowsAnswer, RowsBody, RowsRequest
from penstock.api.rest.dialects.media_types import MediaType
from penstock.api.rest.encode import RestAnswerTemplate
from penstock.core.errors import InvalidInput
from penstock.core.limits import RequestLimits
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, Servable
from penstock.serving.shared_memory import SharedRegions

HEADER_SIZE: Final = "json-header-size"
_LOOKED_AT: Final = 1 << 16
_TENSORS: Final = re.compile(rb'"inputs"\s*:\s*\[\s*\{')
_ROWS: Final = re.compile(rb'"instances"\s*:')


@dataclass(frozen=True, slots=True)
class V2Form:
    """How the outputs of a V2 request travel back (see ``InferBody``)."""

    binary: list[bool] | bool
    nulls: bool


def has_tensors(body: bytes) -> bool:
    """Whether a JSON body is a V2 request: its ``inputs`` are a list of objects, and it has no ``instances``."""
    if body.startswith(b'{"instances":'):
        return False
    start = body[:_LOOKED_AT]
    return _TENSORS.search(start) is not None and _ROWS.search(start) is None


class V2Bodies:
    """Reads and writes V2 bodies; ``binary_type`` is the media type of those with binary tensors. Shared memory is not
    offered: the callers of a cloud's endpoint are on other machines."""

    def __init__(self, plane: DataPlane, binary_type: str) -> None:
        self.binary_type = binary_type
        self._decoder = BodyDecoder(plane.limits, SharedRegions())
        self._templates = MadeOncePerVersion(plane, partial(_make_template, plane.limits))

    def read(self, request: RowsRequest, media: MediaType) -> RowsBody:
        """Decode a body; raises as ``BodyDecoder.decode``, and ``InvalidInput`` for a type without its parameter."""
        length = header_size(media) if media.name == self.binary_type else None
        work = request.work
        body = self._decoder.decode(request.body, length, request.signature, None if work.inline else work.pause)
        return RowsBody(body.given, V2Form(body.binary, body.nulls), body.requested, body.timeout_ns, body.id)

    def encode(self, call: InferCall, form: V2Form, work: RequestWork) -> RowsAnswer:
        """Encode the outputs of a call; raises as ``RestAnswerTemplate.answer``."""
        template = self._templates.get(call.loaded)
        pause = None if work.inline else work.pause
        content, length, tail = template.answer(call, form.binary, form.nulls, pause)
        if length is None:
            return RowsAnswer(content, tail)
        return RowsAnswer(content, tail, f"{self.binary_type};{HEADER_SIZE}={length}".encode())


def _make_template(limits: RequestLimits, loaded: Servable) -> RestAnswerTemplate:
    identity = loaded.identity
    return RestAnswerTemplate(identity.model, identity.version, loaded.signature.outputs, limits)


def header_size(media: MediaType) -> int:
    """Return the length of the JSON part of a binary body."""
    text = media.parameters.get(HEADER_SIZE, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InvalidInput(f"content-type {media.name} needs {HEADER_SIZE}, the number of bytes of the JSON part")
    return int(text)
