"""Selects the gateways whose captured rows training and exams use, how long to wait for them, and how many rows of
each.

The rules live only here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

SILENT_S = 15.0
"""Silence after which a gateway is not queried and not awaited."""

ENDED_S = 600.0
"""Silence after which a gateway has ended; its rows are not awaited."""

WAIT_S = 120.0
"""Time to wait for gateways that are alive."""


@dataclass(frozen=True, slots=True)
class RowAmount:
    """A number of rows and their size in bytes."""

    rows: int = 0
    size: int = 0

    def __add__(self, other: "RowAmount") -> "RowAmount":
        return RowAmount(self.rows + other.rows, self.size + other.size)

    def __sub__(self, other: "RowAmount") -> "RowAmount":
        return RowAmount(self.rows - other.rows, self.size - other.size)

    def is_within(self, most: "RowAmount") -> bool:
        """Whether it is within this limit."""
        return self.rows <= most.rows and self.size <= most.size


NOTHING = RowAmount()


@dataclass(frozen=True, slots=True)
class GatewayShare:
    """A gateway: ``home`` names its files of captured rows ("" if unknown), ``silent_s`` is the time since its last
    heartbeat.
    """

    id: str
    home: str
    silent_s: float


@dataclass(frozen=True, slots=True)
class GatewaySelection:
    """The queried gateways by name, and why the rows of others are missing."""

    asked: tuple[str, ...]
    missing: Mapping[str, str]


def select_gateways(members: Collection[GatewayShare], me: str, home: str) -> GatewaySelection:
    """Return the gateways that the gateway ``me`` queries, which has the files of ``home``: of each other home, one
    that is alive.
    """
    homes, asked = {home}, list[str]()
    others = sorted((member for member in members if member.id != me), key=lambda item: item.id)
    for other in others:
        if other.silent_s <= SILENT_S and (other.home not in homes or not other.home):
            homes.add(other.home)
            asked.append(other.id)
    silent = [
        other
        for other in others
        if SILENT_S < other.silent_s <= ENDED_S and (other.home not in homes or not other.home)
    ]
    return GatewaySelection(tuple(asked), {item.id: _describe_silence(item.silent_s) for item in silent})


@dataclass(frozen=True, slots=True)
class RequestProgress:
    """The progress of a request: the gateways that ``answered``, the silence of each gateway of the fleet (without
    those that left), and the seconds until the deadline.
    """

    answered: Collection[str]
    silent_s: Mapping[str, float]
    left_s: float


def missing_gateways(asked: Sequence[str], progress: RequestProgress) -> dict[str, str] | None:
    """Return why queried gateways have no rows; None while there is something to wait for."""
    missing = {item: _reason_missing(item, progress) for item in asked if item not in progress.answered}
    return None if "" in missing.values() else missing


def _reason_missing(gateway: str, progress: RequestProgress) -> str:
    """Return why a gateway is not awaited, "" if it may still answer."""
    silent_s = progress.silent_s.get(gateway)
    if silent_s is None:
        return "it has left the fleet"
    if silent_s > SILENT_S:
        return _describe_silence(silent_s)
    return f"it did not answer within {WAIT_S:g} s" if progress.left_s <= 0 else ""


def _describe_silence(seconds: float) -> str:
    return f"it has been silent for {seconds:.0f} s"


def gateway_limit(most: RowAmount, gateways: int) -> RowAmount:
    """Return how much one of this number of gateways may send: twice an even share of the bytes, so that a busy one may
    use what others leave.
    """
    return RowAmount(most.rows, min(most.size, 2 * most.size // max(1, gateways)))


def even_amounts(amounts: Mapping[str, RowAmount], most: RowAmount) -> dict[str, RowAmount]:
    """How much of each gateway is taken, so that all together are within ``most``: a gateway that has less than an even
    share gives everything, and leaves the rest of its share to the others."""
    rows = _even_shares({name: amount.rows for name, amount in amounts.items()}, most.rows)
    sizes = _even_shares({name: amount.size for name, amount in amounts.items()}, most.size)
    return {name: RowAmount(rows[name], sizes[name]) for name in amounts}


def _even_shares(wanted: Mapping[str, int], most: int) -> dict[str, int]:
    shares, left = dict[str, int](), most
    for number, name in enumerate(sorted(wanted, key=lambda name: (wanted[name], name))):
        shares[name] = min(wanted[name], left // (len(wanted) - number))
        left -= shares[name]
    return shares
