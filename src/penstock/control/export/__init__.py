"""What leaves the control process about requests: spans and metrics by OTLP, and the access log."""
