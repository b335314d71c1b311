"""Which versions fit into the memory that models may take: a pure rule over what admission measured."""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.core.versions import VersionKey

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """The memory of one version in bytes, and its rank: versions with a lower one are served first."""

    key: VersionKey
    memory_bytes: int
    rank: int = 0


def exclude_versions(needs: Iterable[MemoryNeed], limit: int) -> dict[VersionKey, str]:
    """Return the versions that do not fit into ``limit`` bytes beside those before them, each with the reason.

    Versions are taken by rank, and in the given order within one. A version that does not fit is left out, and smaller
    ones behind it may still be taken.
    """
    left, excluded = limit, {}
    for need in sorted(needs, key=lambda item: item.rank):
        if need.memory_bytes <= left:
            left -= need.memory_bytes
        else:
            excluded[need.key] = _describe_shortage(need.memory_bytes, left, limit)
    return excluded


def _describe_shortage(needed: int, left: int, limit: int) -> str:
    return (
        f"it needs {-(-needed // MIB)} MiB of memory, and of the {limit // MIB} MiB for the models of a worker "
        f"{left // MIB} MiB are free; serve fewer versions, or raise limits.models_memory_bytes"
    )
