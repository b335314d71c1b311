"""What a caller asks for of an answer: which outputs, in which form, and where to."""

from dataclasses import dataclass

from penstock.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ShmTarget:
    """Where in shared memory an output is to be put: the region's name, the offset in it, and the memory itself."""

    region: str
    offset: int
    view: memoryview

    def put(self, name: str, raw: bytes) -> None:
        """Put an output's raw bytes there.

        Raises:
            InvalidInput: there is too little room.
        """
        if len(raw) > len(self.view):
            raise InvalidInput(f"output '{name}' has {len(raw)} bytes; its shared memory has {len(self.view)}")
        self.view[: len(raw)] = raw


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output the caller asked for; ``classes`` > 0 asks for the classification extension's strings."""

    name: str
    classes: int = 0
    into: ShmTarget | None = None
