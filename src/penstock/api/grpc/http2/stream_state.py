"""The states of a stream (RFC 9113 section 5.1) as a table: the effect of each frame in each state.

The table is the only place that knows this. A stream here belongs to a server that never pushes, so the reserved
states do not exist; ``closed`` is three states, as what may still come depends on how a stream was closed.
"""

from enum import IntEnum
from typing import Final

from penstock.api.grpc.http2.frames import ErrorCode


class StreamState(IntEnum):
    """The state of a stream; only ``is_remote_closed`` relies on the order."""

    IDLE = 0
    OPEN = 1
    HALF_CLOSED_LOCAL = 2
    """The server has sent END_STREAM, the client has not."""
    RESET_LOCAL = 3
    """The server has reset it before the client ended it: frames that the client sent before it knew may still arrive.
    """
    HALF_CLOSED_REMOTE = 4
    CLOSED = 5
    """Both sides have ended it."""
    RESET_REMOTE = 6
    """The client has reset it."""
    SKIPPED = 7
    """It never began and never can: a later one exists, or the number is not a client's."""


class StreamEvent(IntEnum):
    """Events that change the state: frames received or sent."""

    HEADERS = 0
    HEADERS_END = 1
    """HEADERS with END_STREAM."""
    DATA = 2
    DATA_END = 3
    RST_STREAM = 4
    WINDOW_UPDATE = 5
    SEND_END = 6
    SEND_RST_STREAM = 7


class FrameVerdict(IntEnum):
    """How to handle a frame."""

    ACCEPT = 0
    IGNORE = 1
    """It is late: counted, and without effect except on compression and flow control."""
    STREAM_ERROR = 2
    CONNECTION_ERROR = 3


class StateTransition:
    """The effect of an event in a state."""

    __slots__ = ("code", "state", "verdict")

    def __init__(self, state: StreamState, verdict: FrameVerdict, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        self.state = state
        self.verdict = verdict
        self.code = code


_S = StreamState
_E = StreamEvent
_FRAMES: Final = (_E.HEADERS, _E.HEADERS_END, _E.DATA, _E.DATA_END, _E.RST_STREAM, _E.WINDOW_UPDATE)
_BODY: Final = (_E.HEADERS, _E.HEADERS_END, _E.DATA, _E.DATA_END)


def _accept(state: StreamState) -> StateTransition:
    return StateTransition(state, FrameVerdict.ACCEPT)


def _ignore(state: StreamState) -> StateTransition:
    return StateTransition(state, FrameVerdict.IGNORE)


def _build_table() -> list[StateTransition]:
    """Return the whole table, indexed by ``state * len(StreamEvent) + event``."""
    idle = StateTransition(_S.IDLE, FrameVerdict.CONNECTION_ERROR, ErrorCode.PROTOCOL_ERROR)
    rules: dict[tuple[StreamState, StreamEvent], StateTransition] = {}

    # idle: a request begins, and nothing else may come
    rules |= {(_S.IDLE, event): idle for event in _FRAMES}
    rules[_S.IDLE, _E.HEADERS] = _accept(_S.OPEN)
    rules[_S.IDLE, _E.HEADERS_END] = _accept(_S.HALF_CLOSED_REMOTE)
    rules |= {(_S.SKIPPED, event): idle for event in _FRAMES}

    # open, and half-closed (local): the rest of the request; a second header block has to be its last frame
    for state, ended in ((_S.OPEN, _S.HALF_CLOSED_REMOTE), (_S.HALF_CLOSED_LOCAL, _S.CLOSED)):
        rules[state, _E.HEADERS] = StateTransition(state, FrameVerdict.STREAM_ERROR, ErrorCode.PROTOCOL_ERROR)
        rules[state, _E.HEADERS_END] = _accept(ended)
        rules[state, _E.DATA] = _accept(state)
        rules[state, _E.DATA_END] = _accept(ended)
        rules[state, _E.RST_STREAM] = _accept(_S.RESET_REMOTE)
        rules[state, _E.WINDOW_UPDATE] = _accept(state)
        rules[state, _E.SEND_RST_STREAM] = _accept(_S.RESET_LOCAL)
    rules[_S.OPEN, _E.SEND_END] = _accept(_S.HALF_CLOSED_LOCAL)

    # half-closed (remote): the request is whole, so nothing more of it may come
    for event in _BODY:
        rules[_S.HALF_CLOSED_REMOTE, event] = StateTransition(
            _S.HALF_CLOSED_REMOTE, FrameVerdict.STREAM_ERROR, ErrorCode.STREAM_CLOSED
        )
    rules[_S.HALF_CLOSED_REMOTE, _E.RST_STREAM] = _accept(_S.RESET_REMOTE)
    rules[_S.HALF_CLOSED_REMOTE, _E.WINDOW_UPDATE] = _accept(_S.HALF_CLOSED_REMOTE)
    rules[_S.HALF_CLOSED_REMOTE, _E.SEND_END] = _accept(_S.CLOSED)
    rules[_S.HALF_CLOSED_REMOTE, _E.SEND_RST_STREAM] = _accept(_S.CLOSED)

    # closed by both: the peer knew that it had ended
    for event in _BODY:
        rules[_S.CLOSED, event] = StateTransition(_S.CLOSED, FrameVerdict.CONNECTION_ERROR, ErrorCode.STREAM_CLOSED)
    rules[_S.CLOSED, _E.RST_STREAM] = _ignore(_S.CLOSED)
    rules[_S.CLOSED, _E.WINDOW_UPDATE] = _ignore(_S.CLOSED)

    # reset by us: the peer may not have heard of it
    for event in (_E.HEADERS, _E.DATA, _E.WINDOW_UPDATE):
        rules[_S.RESET_LOCAL, event] = _ignore(_S.RESET_LOCAL)
    for event in (_E.HEADERS_END, _E.DATA_END):
        rules[_S.RESET_LOCAL, event] = _ignore(_S.CLOSED)
    rules[_S.RESET_LOCAL, _E.RST_STREAM] = _ignore(_S.RESET_REMOTE)

    # reset by the peer: it must not send more of the request
    for event in _BODY:
        rules[_S.RESET_REMOTE, event] = StateTransition(
            _S.RESET_REMOTE, FrameVerdict.STREAM_ERROR, ErrorCode.STREAM_CLOSED
        )
    rules[_S.RESET_REMOTE, _E.RST_STREAM] = _ignore(_S.RESET_REMOTE)
    rules[_S.RESET_REMOTE, _E.WINDOW_UPDATE] = _ignore(_S.RESET_REMOTE)

    # whatever else we might send on a stream that is over is not sent
    for state in _S:
        for event in (_E.SEND_END, _E.SEND_RST_STREAM):
            rules.setdefault((state, event), _ignore(state))
    return [rules[state, event] for state in _S for event in _E]


TRANSITIONS: Final = _build_table()
_EVENTS: Final = len(StreamEvent)


def transition(state: StreamState, event: StreamEvent) -> StateTransition:
    """Return the effect of an event in a state."""
    return TRANSITIONS[state * _EVENTS + event]


def is_remote_closed(state: StreamState) -> bool:
    """Whether the client has ended or reset its side, so that no more of the request can arrive."""
    return state >= StreamState.HALF_CLOSED_REMOTE
