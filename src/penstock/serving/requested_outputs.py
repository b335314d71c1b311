"""The outputs that a caller requests: which, in which form, and where to write them."""

from dataclasses import dataclass

from penstock.serving.shared_memory import RegionSpan


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """A requested output. ``classes`` > 0 requests the classification extension's strings; ``into`` is its shared
    memory.

    ``classes`` > 0 asks for the classification extension's strings; ``into`` says where in shared memory it belongs.
    """

    name: str
    classes: int = 0
    into: RegionSpan | None = None
