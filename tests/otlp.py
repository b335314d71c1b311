"""An OTLP receiver over HTTP, which decodes what comes with the messages of OpenTelemetry's own package."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver:
    """What a receiver has got. ``statuses`` are the answers to the next requests, 200 after them; ``fields`` go with
    those that are not 200, and ``rejected`` is what it says of each request that it takes."""

    port: int = 0
    spans: list[Span] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    rejected: int = 0

    @property
    def url(self) -> str:
        """The base address."""
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, body: bytes) -> bytes:
        """Take a request, and return the response."""
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            for resource in traces.resource_spans:
                self.resources.append(values_of(resource.resource.attributes))
                for scope in resource.scope_spans:
                    self.spans += scope.spans
            answer = ExportTraceServiceResponse()
            answer.partial_success.rejected_spans = self.rejected
            return answer.SerializeToString()
        assert path == "/v1/metrics", path
        pushed = ExportMetricsServiceRequest.FromString(body)
        for source in pushed.resource_metrics:
            self.resources.append(values_of(source.resource.attributes))
            for part in source.scope_metrics:
                self.metrics += part.metrics
        return ExportMetricsServiceResponse().SerializeToString()

    def find(self, name: str) -> list[Span]:
        """The spans of a name."""
        return [span for span in list(self.spans) if span.name == name]


def values_of(attributes: Any) -> dict[str, Any]:
    """Attributes as a mapping."""
    return {item.key: _value_of(item) for item in attributes}


def _value_of(item: KeyValue) -> Any:
    return getattr(item.value, item.value.WhichOneof("value") or "string_value")


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"] == "application/x-protobuf"
            receiver.requests.append(self.path)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            status = receiver.statuses.pop(0) if receiver.statuses else 200
            answer = receiver.take(self.path, body) if status == 200 else b""
            self.send_response(status)
            for name, value in receiver.fields.items() if status != 200 else ():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
