"""Limits of the work of one request, which are checked before the work begins."""

from dataclasses import dataclass, replace
from typing import Final

MAX_BODY_SETTING: Final = "limits.max_body_bytes"
"""The setting that limits received bytes."""

MAX_OUTPUT_SETTING: Final = "limits.max_output_bytes"
"""The setting that limits an answer."""

MEMORY_SETTING: Final = "limits.memory_bytes"
"""The setting that limits what a worker holds for all of its callers."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one request and its answer; the settings below ``limits`` have the same names and defaults.

    ``max_body_bytes`` and ``max_json_bytes`` bound what is received, plain and inflated, ``max_output_bytes`` the
    encoded answer. ``max_elements`` bounds the elements of a typed list, ``max_text_elements`` and
    ``max_text_bytes`` those of BYTES tensors and what they hold, all of them over the tensors of one request or answer;
    ONNX Runtime converts texts one tensor at a time with the GIL held, and nobody else is answered meanwhile.
    ``max_body_setting`` and ``max_output_setting`` name the settings that the two bounds come from.
    """

    max_body_bytes: int = 64 << 20
    max_json_bytes: int = 8 << 20
    max_output_bytes: int = 256 << 20
    max_elements: int = 1 << 22
    max_text_elements: int = 1 << 16
    max_text_bytes: int = 8 << 20
    max_body_setting: str = MAX_BODY_SETTING
    max_output_setting: str = MAX_OUTPUT_SETTING

    def within(self, memory_bytes: int) -> "RequestLimits":
        """Return the limits for this amount of memory: what is larger never fits."""
        limits = self
        if limits.max_body_bytes > memory_bytes:
            limits = replace(limits, max_body_bytes=memory_bytes, max_body_setting=MEMORY_SETTING)
        if limits.max_output_bytes > memory_bytes:
            limits = replace(limits, max_output_bytes=memory_bytes, max_output_setting=MEMORY_SETTING)
        return limits
