"""What to do with a batch of telemetry after an answer, as the OTLP specification says."""

from dataclasses import dataclass
from typing import Final

RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""The only statuses that a retry may follow; without an answer a retry is allowed too."""

FIRST_S, LONGEST_S = 1.0, 30.0
LONGEST_STATED_S: Final = 300.0
"""The longest pause that a receiver can ask for."""

MOST_ATTEMPTS: Final = 8
"""Attempts for one batch, about two minutes; meanwhile the others wait in a bounded queue."""

UNSTATED: Final = "it does not say why"
SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class ExportAnswer:
    """An answer of a receiver: its status (0: none came), after how many seconds it wants to be asked again, how many
    items it rejected, and its reason."""

    status: int
    retry_after_s: float = 0.0
    rejected: int = 0
    reason: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the receiver has the batch, except for what it rejected."""
        return self.status in SUCCESS


def retry_after(answer: ExportAnswer, attempts: int, chance: float) -> float | None:
    """Return after how many seconds to send a batch again that was not taken; None to drop it.

    ``attempts`` were made so far. The pause doubles, a random part off, and is no shorter than the receiver asks for.
    """
    if answer.status and answer.status not in RETRYABLE:
        return None
    if attempts >= MOST_ATTEMPTS:
        return None
    pause_s = min(LONGEST_S, FIRST_S * 2.0 ** (attempts - 1)) * (1 - chance / 2)
    return max(pause_s, min(answer.retry_after_s, LONGEST_STATED_S))
