"""Explanations over REST: an infer request as body, and the explanation as tensors; its work is done on threads."""

from collections.abc import Mapping
from functools import partial
from time import monotonic_ns
from typing import Any, Final

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.content_coding import BOM
from penstock.api.common.explanations import explain_instead, with_requested
from penstock.api.common.request_builder import admit, build_call
from penstock.api.common.response_metadata import REQUEST_ID, answered_by
from penstock.api.common.text_safety import id_text
from penstock.api.rest.decode import BodyDecoder
from penstock.api.rest.infer_body import InferBody
from penstock.api.rest.messages import Parameters
from penstock.api.rest.request_body import BodyReader
from penstock.api.rest.responses import ANSWER_FIELDS, AnswerFields
from penstock.core.errors import Fault, InvalidInput
from penstock.core.labels import PROTOCOL_NAMES, Protocol, Route
from penstock.core.signature import Signature
from penstock.core.slices import NUMBER_SLICE, Pacer, PauseWork
from penstock.core.tensors import Tensor
from penstock.core.traces.context import TRACERESPONSE
from penstock.serving.call_trace import CallTrace
from penstock.serving.data_plane import DataPlane
from penstock.serving.explanations.run_rows import run_call
from penstock.serving.infer_call import InferCall
from penstock.serving.routing_table import RouteDecision

MOST_BODY: Final = 2 << 20
"""Maximum bytes of a body: the rows of one explanation are few."""

ANSWER_BYTES: Final = 1 << 20
"""Assumed bytes of an answer, for the queue of the thread that writes it."""


EXPLAIN_PATH: Final = "/v2/models/{model}/explain"
VERSION_PATH: Final = "/v2/models/{model}/versions/{version}/explain"


class _Parameters(msgspec.Struct):
    parameters: Parameters | None = None


class ExplainEndpoint:
    """Answers requests for explanations, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._bodies = BodyReader(plane.memory, plane.offload)
        self._decoder = BodyDecoder(plane.limits, plane.regions)

    async def explain(self, request: Request) -> Response:
        """Answer one request."""
        began_ns, fields = monotonic_ns(), dict(request.scope["headers"])
        stated: AnswerFields = request.scope.setdefault(ANSWER_FIELDS, {})
        target = request.path_params["model"], request.path_params.get("version", "")
        decision = self._plane.route(target, fields)
        try:
            return await self._explain(request, decision, fields, began_ns, stated)
        except Fault as fault:
            if not stated:
                stated.update(self._trace_refusal(decision, fault, fields, began_ns))
            raise

    async def _explain(
        self,
        request: Request,
        decision: RouteDecision,
        fields: Mapping[bytes, bytes],
        began_ns: int,
        stated: AnswerFields,
    ) -> Response:
        """Answer a request; ``stated`` gets what its answer states, once there is a call, whatever becomes of it."""
        admit(decision, fields)
        raw = await self._bodies.read(request, MOST_BODY)
        work = partial(self._read, raw, fields, decision[0].signature, request.scope["access"].owner)
        body, parameters = await self._plane.offload.run(work, len(raw))
        lease = request.scope.get("lease")
        call = await explain_call(self._plane, decision, body, parameters, fields, began_ns, stated, lease)
        content = await self._plane.offload.run(partial(encode_answer, call, Pacer().pause), ANSWER_BYTES)
        return Response(content, media_type="application/json", headers=stated)

    def _trace_refusal(
        self, decision: RouteDecision, fault: Fault, fields: Mapping[bytes, bytes], began_ns: int
    ) -> AnswerFields:
        """Trace a request that was refused before it became an explanation; return the field with its trace, if any."""
        if self._plane.tracer is None:
            return {}
        loaded, route, _ = decision
        series = route * len(PROTOCOL_NAMES) + Protocol.REST
        endpoint, now = endpoint_of(route), monotonic_ns()
        trace = self._plane.tracer.record_rejected(loaded.identity, series, fault.kind, began_ns, now, fields, endpoint)
        return trace_fields(trace)

    def _read(
        self, raw: bytes, fields: Mapping[bytes, bytes], signature: Signature, owner: str
    ) -> tuple[InferBody, dict[str, Any]]:
        """Decode a body; on a thread."""
        length = _json_length(fields)
        body = self._decoder.decode(raw, length, signature, Pacer().pause, owner)
        parameters = msgspec.json.decode(raw[:length].removeprefix(BOM), type=_Parameters).parameters or {}
        return body, with_requested(parameters, body.requested)


def _json_length(fields: Mapping[bytes, bytes]) -> int | None:
    stated = fields.get(b"inference-header-content-length")
    if stated is None:
        return None
    if not stated.isdigit() or len(stated) > 18 or not int(stated):
        raise InvalidInput("inference-header-content-length must be the bytes of the JSON part")
    return int(stated)


async def explain_call(
    plane: DataPlane,
    decision: RouteDecision,
    body: InferBody,
    parameters: Mapping[str, Any],
    fields: Mapping[bytes, bytes],
    began_ns: int,
    stated: AnswerFields,
    lease: Any = None,
) -> InferCall:
    """Make an explanation of the rows of a body, and count it; ``lease`` is what the request holds of its caller's
    quota, ``stated`` gets the fields of the answer, also if it has failed. Returns its call, which has the tensors of
    the answer.

    Raises:
        Fault: it was refused, or failed.
    """
    priority = admit(decision, fields)
    call = build_call(
        plane, decision, Protocol.REST, priority, fields, began_ns, body.id, body.given, None, body.timeout_ns
    )
    call.lease = lease
    call.endpoint = endpoint_of(decision[1])
    explain_instead(plane, call, parameters)
    try:
        await run_call(call)
    except Fault as fault:
        call.fault = fault
        raise
    finally:
        plane.record_answered([call])
        stated.update(answer_fields(call, decision[1]))
    return call


def endpoint_of(route: Route) -> str:
    """Return the template of the path of an explanation."""
    return VERSION_PATH if route is Route.PINNED else EXPLAIN_PATH


def answer_fields(call: InferCall, route: Route) -> AnswerFields:
    """Return the header fields of an answer: version, route, request id, and trace."""
    request_id = id_text(call.id)
    known = {REQUEST_ID: request_id} if request_id else {}
    return {**dict(answered_by(call.loaded, route)), **known, **trace_fields(call.trace)}


def trace_fields(trace: CallTrace | None) -> AnswerFields:
    """Return the trace of a request as a field of its answer; none if it is not exported."""
    response = b"" if trace is None else trace.response
    return {TRACERESPONSE.decode(): response.decode()} if response else {}


def encode_answer(call: InferCall, pause: PauseWork) -> bytes:
    """Return the explanation of a call as a V2 answer in JSON; NaN and infinity are null."""
    identity = call.loaded.identity
    parameters = {} if call.explanation is None else call.explanation.parameters
    head = {"model_name": identity.model, "model_version": identity.version, "id": call.id, "parameters": parameters}
    outputs = b",".join([_encode_tensor(tensor, pause) for tensor in call.outputs])
    return orjson.dumps(head)[:-1] + b',"outputs":[' + outputs + b"]}"


def _encode_tensor(tensor: Tensor, pause: PauseWork) -> bytes:
    head = orjson.dumps({"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.data.shape)})
    return head[:-1] + b',"data":[' + b",".join(_encode_slices(tensor, pause)) + b"]}"


def _encode_slices(tensor: Tensor, pause: PauseWork) -> list[bytes]:
    """Return the values of a tensor as JSON, without the brackets, in slices."""
    flat, step = tensor.data.ravel(), NUMBER_SLICE // 4
    parts = []
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        values = part.tolist() if part.dtype == object else part
        parts.append(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
        pause()
    return parts
