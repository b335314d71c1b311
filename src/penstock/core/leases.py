"""Who leads a fleet: what the lease in the database says, and what a gateway does about it.

The rules live only here.
"""

from dataclasses import dataclass
from enum import StrEnum

LEASE_S = 6.0
"""Time without renewal after which a leader is replaced."""

RENEW_S = LEASE_S / 3
LOOK_S = 1.0
"""Interval at which a gateway that does not lead checks the lease."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease in the database: its holder, the term (0: nobody ever held it), and its remaining seconds by the
    database's clock.
    """

    holder: str = ""
    term: int = 0
    left_s: float = 0.0

    @property
    def is_free(self) -> bool:
        """Whether anybody may acquire it. A lease longer than the maximum is from before the clock was set back."""
        return not 0 < self.left_s <= LEASE_S


class LeaseAction(StrEnum):
    """The action of a gateway on the lease."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"
    STEP_DOWN = "step down"


def decide(lease: Lease, gateway: str, term: int | None) -> LeaseAction:
    """Decide what a gateway does that leads in ``term``, or does not (None).

    The lease belongs to whoever acquired its term, however late: nobody else has led since. A gateway whose control
    process was replaced goes on at once, in a term of its own, so that the process before it can write nothing more.
    """
    if term is not None:
        return LeaseAction.RENEW if term == lease.term else LeaseAction.STEP_DOWN
    return LeaseAction.ACQUIRE if lease.is_free or lease.holder == gateway else LeaseAction.WAIT
