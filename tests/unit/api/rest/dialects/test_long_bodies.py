"""Long bodies: no garbage collection while they are read, and lists that are freed in slices."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.api.common.work import RequestWork
from penstock.api.rest.dialects import kserve_v1
from penstock.api.rest.dialects.json_body import read_object
from penstock.api.rest.dialects.long_bodies import MOST_NS, CollectorPause, free_lists
from penstock.core.limits import RequestLimits
from tests.fuzz.targets import World
from tests.unit.api.rest.dialects.worlds import DialectClient


class Clock:
    """A clock that is set."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_is_off_until_the_last_body_is_read() -> None:
    pause = CollectorPause(Clock())
    with pause:
        with pause:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_is_switched_on_again_after_a_time_limit() -> None:
    clock = Clock()
    pause = CollectorPause(clock)
    with pause:
        with pause:
            clock.now_ns = MOST_NS
        assert gc.isenabled(), "bodies without end must not turn it off for ever"
        with pause:
            assert gc.isenabled()
    with pause:
        assert not gc.isenabled()


def test_a_process_without_the_collector_stays_so() -> None:
    gc.disable()
    with CollectorPause():
        pass
    assert not gc.isenabled()


def test_lists_are_freed_in_slices() -> None:
    found: list[Any] = [[] for _ in range(5000)]
    held, sizes = [found], []
    free_lists(held, lambda: sizes.append(len(found)))
    assert (held, found) == ([], [])
    assert max(before - after for before, after in zip([5000, *sizes], sizes, strict=False)) <= 1024


@pytest.mark.parametrize("fails", [False, True])
def test_long_bodies_are_read_without_collections_and_freed(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    seen: list[tuple[bool, list[Any]]] = []

    def read(body: bytes, work: RequestWork) -> dict[str, Any]:
        document = read_object(body, work)
        if not work.inline:
            seen.append((gc.isenabled(), document["instances"]))
        return document

    monkeypatch.setattr(kserve_v1, "read_object", read)
    rows = [[1, None, 3]] * 5000 + [[1]] * fails
    world = World()
    try:
        status, *_ = DialectClient(world, "kserve_v1").ask("/v1/models/row:predict", {"instances": rows})
    finally:
        world.close()
    assert status == (400 if fails else 200)
    assert seen == [(False, [])], "off while it is read, and nothing left after it"
    assert gc.isenabled()


def test_a_short_body_holds_no_lists() -> None:
    work = RequestWork(RequestLimits(), None)
    read_object(b'{"instances": [[1, 2, 3]]}', work)
    assert work.held == []
