"""Assigns regions of the workers' counter memory, in which the rows of watched versions are counted."""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.control.periodic import ProblemLog
from penstock.core.versions import VersionKey
from penstock.engine.durable_files import write_atomically
from penstock.monitor.counters.layout import REGION_CELLS

log = logging.getLogger("penstock.control")


@dataclass(frozen=True, slots=True)
class CounterRegion:
    """The cells of a version's reference (offset and size), and the keys that its rows are sliced by."""

    digest: str
    offset: int
    size: int
    keys: tuple[str, ...] = ()


class CounterRegions:
    """The regions in use, for one event loop. ``state`` is a file that outlives the control process; ``clear`` sets the
    region with an offset and a size (cells) to zero in every worker."""

    def __init__(self, state: Path, clear: Callable[[int, int], None]) -> None:
        self._state = state
        self._clear = clear
        self._problem_log = ProblemLog()
        self._in_use: dict[VersionKey, CounterRegion] = self._read()

    def __iter__(self) -> Iterator[VersionKey]:
        return iter(self._in_use)

    def get(self, key: VersionKey) -> CounterRegion | None:
        """Return a version's region, None for none."""
        return self._in_use.get(key)

    def assign(
        self, key: VersionKey, digest: str, size: int, keys: tuple[str, ...], served: Collection[VersionKey]
    ) -> CounterRegion | None:
        """Return the region of a version with this reference and ``size`` cells: its present one, or a new one.

        None if too few cells are free. Versions that are not ``served`` lose their region.
        """
        assigned = self._in_use.get(key)
        if assigned is not None and (assigned.digest, assigned.size, assigned.keys) == (digest, size, keys):
            return assigned
        kept = {item: region for item, region in self._in_use.items() if item != key and (item in served or not served)}
        # Cells in use until now are assigned last: workers write to them until they receive the new desired state.
        offset = free_offset(self._in_use.values(), size)
        if offset is None:
            offset = free_offset(kept.values(), size)
        if offset is None:
            self._problem_log.report(
                key, "model {} version {} is not watched: no counter memory is free; unload a version".format(*key)
            )
            return None
        self._problem_log.clear(key)
        region = CounterRegion(digest, offset, size, keys)
        self._clear(offset, size)
        self._in_use = {**kept, key: region}
        self._write()
        return region

    def _read(self) -> dict[VersionKey, CounterRegion]:
        try:
            values = json.loads(self._state.read_text())
            return {
                (value["model"], value["version"]): CounterRegion(
                    **{**value["region"], "keys": tuple(value["region"]["keys"])}
                )
                for value in values
            }
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write(self) -> None:
        values: list[dict[str, Any]] = [
            {"model": model, "version": version, "region": asdict(item)}
            for (model, version), item in self._in_use.items()
        ]
        with suppress(OSError):
            write_atomically(self._state, json.dumps(values))


def free_offset(regions: Iterable[CounterRegion], size: int) -> int | None:
    """Return the first offset with ``size`` free cells beside these regions, None if there is none."""
    at = 0
    for region in sorted(regions, key=lambda item: item.offset):
        if region.offset - at >= size:
            return at
        at = max(at, region.offset + region.size)
    return at if REGION_CELLS - at >= size else None
