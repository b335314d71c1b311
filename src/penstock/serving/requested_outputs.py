"""What a caller asks for of an answer: which outputs, in which form, and where to."""

from dataclasses import dataclass

from penstock.serving.shared_memory import RegionSpan


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output the caller asked for.

    ``classes`` > 0 asks for the classification extension's strings; ``into`` says where in shared memory it belongs.
    """

    name: str
    classes: int = 0
    into: RegionSpan | None = None
