"""How much work one request may ask for: bounds that are held before the work begins."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds on one request and its answer; the settings below ``limits`` have the same names and defaults.

    ``max_body_bytes`` and ``max_json_bytes`` bound what is received, plain and inflated, ``max_output_bytes`` the
    encoded answer. ``max_elements`` bounds the elements of a typed list, ``max_text_elements`` those of BYTES tensors,
    both over all tensors of one request or answer.
    """

    max_body_bytes: int = 64 << 20
    max_json_bytes: int = 8 << 20
    max_output_bytes: int = 256 << 20
    max_elements: int = 1 << 22
    max_text_elements: int = 1 << 18
