"""What messages of all signals share: attributes, the resource, the scope, and the answer of the receiver."""

from collections.abc import Mapping

from penstock.telemetry.otlp.protobuf import double, integer, message, read_fields, text

Value = str | int | float | bool
SCHEMA = "https://opentelemetry.io/schemas/1.39.0"
MOST_REJECTED = (1 << 63) - 1
"""The largest number of rejected items; what is over it is a negative one."""

TRACES_PATH, METRICS_PATH = "/v1/traces", "/v1/metrics"


def attributes(number: int, values: Mapping[str, Value]) -> bytes:
    """Return a repeated field of attributes (``KeyValue``)."""
    return b"".join([message(number, text(1, name), message(2, _any_value(value))) for name, value in values.items()])


def _any_value(value: Value) -> bytes:
    if isinstance(value, bool):
        return integer(2, value)
    if isinstance(value, int):
        return integer(3, value)
    return text(1, value) if isinstance(value, str) else double(4, value)


def enclose(resource: Mapping[str, Value], version: str, items: bytes) -> bytes:
    """Return an export request: ``items`` (fields 2 of a scope) from one resource and one scope. The messages of spans
    and of metrics have the same numbers here."""
    scope = message(1, text(1, "penstock"), text(2, version))
    return message(1, message(1, attributes(1, resource)), message(2, scope, items), text(3, SCHEMA))


def read_rejected(body: bytes) -> tuple[int, str]:
    """Return how many items an export response says were rejected, and why; none if it cannot be read."""
    try:
        partial = read_fields(body).get(1)
        fields = read_fields(partial) if isinstance(partial, bytes) else {}
    except ValueError:
        return 0, ""
    rejected, reason = fields.get(1, 0), fields.get(2, b"")
    stated = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else ""
    return (rejected if isinstance(rejected, int) and rejected <= MOST_REJECTED else 0), stated[:200]


def signal_url(endpoint: str, path: str) -> str:
    """Return where a signal goes: ``endpoint`` is the receiver's base, as ``OTEL_EXPORTER_OTLP_ENDPOINT``, or already
    has the path."""
    base = endpoint.rstrip("/")
    return base if base.endswith(path) else base + path
