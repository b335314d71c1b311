"""The endpoint of the stream: checks what is asked for, and begins."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.api.admin.answers import build_routes
from penstock.api.admin.caller_check import caller_of, is_still_valid, visible_models
from penstock.api.admin.stream.hub import StreamHub
from penstock.api.admin.stream.messages import MessageStream, Position
from penstock.api.admin.stream.topics import Topic, parse_topics
from penstock.core.errors import unknown_model

MEDIA_TYPE = "text/event-stream"
HEADERS = {"x-accel-buffering": "no"}
"""By this field nginx passes on messages as they come."""


def list_routes(hub: StreamHub) -> list[Route]:
    """Return the route below ``/admin/v1`` for the stream."""

    async def open_stream(request: Request) -> Response:
        topics, visible = parse_topics(request.query_params.get("topics", "")), visible_models(request)
        for topic in topics:
            if topic.model and not visible.allows(topic.model):
                raise unknown_model(topic.model)
        caller = caller_of(request)
        name = f"{caller.kind.value}:{caller.name}" if caller.is_proven else ""
        hub.check_capacity(topics, name)
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE, headers=HEADERS)
        position = _read_position(request, topics)
        stream = MessageStream(hub, position, visible, lambda: is_still_valid(request), caller=name)
        return StreamingResponse(stream.messages(), media_type=MEDIA_TYPE, headers=HEADERS)

    return build_routes([("GET", "/stream", open_stream)])


def _read_position(request: Request, topics: Sequence[Topic]) -> Position:
    """Return what the client has: by the header, which browsers send when they connect again, or by the query, which a
    page states when it begins another stream. The page may have dropped documents since; it keeps events."""
    if text := request.headers.get("last-event-id", ""):
        return Position.parse(topics, text)
    return Position.parse(topics, request.query_params.get("last-event-id", "")).events_only()
