"""OTLP, the protocol of OpenTelemetry: messages of spans and metrics, written without its libraries."""
