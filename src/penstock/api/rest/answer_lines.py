"""Fields of answers that belong to one request: its id, its trace, and the time of each stage if it asks for them."""

from itertools import pairwise

from penstock.api.common.text_safety import id_text
from penstock.serving.call_trace import CallTrace
from penstock.serving.infer_call import InferCall


def timing_line(call: InferCall, now_ns: int) -> bytes:
    """Return the time of each stage in milliseconds (W3C Server Timing, section 3)."""
    times = (call.began_ns, call.decoded_ns, call.started_ns, call.ran_ns, now_ns)
    spent = [max(0, end - start) / 1e6 for start, end in pairwise(times)]
    return b"server-timing: decode;dur=%.4f, queue;dur=%.4f, run;dur=%.4f, encode;dur=%.4f\r\n" % tuple(spent)


def trace_line(trace: CallTrace) -> bytes:
    """Return the trace of a request (W3C Trace Context Level 2); empty if it is not exported."""
    response = trace.response
    return b"".join((b"traceresponse: ", response, b"\r\n")) if response else b""


def id_line(call_id: str) -> bytes:
    """Return a request id as a field; empty if it is too long."""
    text = id_text(call_id)
    return b"x-request-id: %b\r\n" % text.encode() if text else b""
