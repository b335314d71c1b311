"""Limits failed attempts to authenticate by address, so that guessing and floods of bad credentials cost little."""

from typing import Final

BURST: Final = 100
"""Failures that an address may have at once."""

PER_SECOND: Final = 5.0
"""Failures a second that an address may have in the long run."""

MOST_ADDRESSES: Final = 4096
"""Addresses that are remembered; of more, those that failed last."""

_IPV6_PREFIX_GROUPS: Final = 4


class FailedAttempts:
    """The failures of each address as a leaking bucket: each adds one, and ``per_second`` leak. Times are in seconds of
    a monotonic clock. Bounded by ``most`` addresses; not for several threads."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND, most: int = MOST_ADDRESSES) -> None:
        self._burst = burst
        self._per_second = per_second
        self._most = most
        self._levels: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._levels)

    def add(self, address: str, now_s: float) -> None:
        """Count a failure of an address; one that is limited already stays at its limit."""
        level = min(self._burst - 1.0, self._level(address, now_s)) + 1
        self._levels.pop(address, None)
        if len(self._levels) >= self._most:
            del self._levels[next(iter(self._levels))]
        self._levels[address] = level, now_s

    def wait_s(self, address: str, now_s: float) -> float:
        """Return the seconds until an address may try again, 0 if it may now."""
        level = self._level(address, now_s)
        return max(0.0, (level - self._burst + 1) / self._per_second) if self._per_second else 0.0

    def _level(self, address: str, now_s: float) -> float:
        level, at = self._levels.get(address, (0.0, now_s))
        return max(0.0, level - (now_s - at) * self._per_second)


def address_key(peer: object) -> str:
    """Return what identifies the client with this socket address: an IPv4 address, or the network of an IPv6 address,
    as one client has all addresses of a /64; "" for any other socket."""
    if not isinstance(peer, tuple) or not peer or not isinstance(peer[0], str):
        return ""
    host = peer[0].partition("%")[0]
    if ":" not in host or host.startswith("::ffff:"):
        return host.removeprefix("::ffff:")
    head, _, tail = host.partition("::")
    groups = head.split(":") if head else []
    missing = 8 - len(groups) - (len(tail.split(":")) if tail else 0) if "::" in host else 0
    groups += ["0"] * missing
    return ":".join((groups + (tail.split(":") if tail else []))[:_IPV6_PREFIX_GROUPS])
