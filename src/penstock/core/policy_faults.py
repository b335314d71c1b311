"""What is wrong with a policy, each fault with its place in the text that states it; pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PolicyText:
    """The values of a policy's text, and the line of each by its path in faults (``triggers[0].when``)."""

    document: Mapping[str, Any]
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PolicyFault:
    """One fault: the path of the value that it is about ("" for the whole), and its line (None: unknown)."""

    message: str
    path: str = ""
    line: int | None = None

    def to_api(self) -> dict[str, Any]:
        """Return the fault for the admin API."""
        return {"line": self.line, "path": self.path, "message": self.message}


class UnreadableText(Exception):
    """A text is not a document; ``fault`` says why, and where."""

    def __init__(self, fault: PolicyFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


ReadPolicyText = Callable[[str], PolicyText]
"""Reads the text of a policy; raises ``UnreadableText``."""


def locate_faults(text: str, lines: Mapping[str, int]) -> list[PolicyFault]:
    """Return the faults in an error text, which has a sentence for each, with the line of the value that it is about or
    of the enclosing section."""
    return [_locate(sentence, lines) for sentence in text.split("; ")]


def _locate(sentence: str, lines: Mapping[str, int]) -> PolicyFault:
    stated = sentence.split("'")[1] if sentence.count("'") > 1 else ""
    path = stated
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return PolicyFault(sentence, path or (stated if not lines else ""), lines.get(path) if path else None)
