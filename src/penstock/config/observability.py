"""The sections of the settings about traces, the access log and the push of metrics."""

from pathlib import Path
from typing import Annotated, Any

from penstock.config.fields import Field, Prepare, Section

Ratio = Annotated[float, Field(ge=0, le=1)]

ReceiverUrl = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2000)]


class TracingSettings(Section):
    """Traces of requests, exported by OTLP over HTTP."""

    otlp_endpoint: ReceiverUrl | None = None
    """Base address of the OTLP receiver, such as http://127.0.0.1:4318; none by default, and then nothing is traced."""

    headers_file: Path | None = None
    """A file with header fields for the receiver, such as authorization, one "name: value" a line; only its owner may
    read it."""

    ratio: Ratio = 0.01
    """Share of the requests to trace whose callers do not decide it by traceparent."""

    max_forced_per_second: Annotated[float, Field(ge=0, le=100_000)] = 10.0
    """Requests per second that callers can have traced, and as many failed ones that are traced whatever the ratio."""

    max_processor_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Part of one processor that the control process may take to make and send spans; what would take more is dropped
    and counted."""


class MetricsPushSettings(Section):
    """A push of the metrics by OTLP over HTTP."""

    endpoint: ReceiverUrl
    """Base address of the OTLP receiver, such as http://127.0.0.1:4318."""

    headers_file: Path | None = None
    """A file with header fields for the receiver, one "name: value" a line; only its owner may read it."""

    interval_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Time between two pushes."""


def _address_alone(value: Any) -> Any:
    """Accept an address without the other settings."""
    return {"endpoint": value} if isinstance(value, str) else value


MetricsPush = Annotated[MetricsPushSettings | None, Prepare(_address_alone)]
