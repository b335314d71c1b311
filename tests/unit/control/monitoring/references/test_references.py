"""References by version: taken over by digest, from the disk where the database is away, each version by itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.control.monitoring.references.references import References
from penstock.control.periodic import PeriodicTask
from penstock.core.errors import NotReady
from penstock.monitor.reference import Reference
from penstock.registry.stores.monitor import MonitorStore
from tests.unit.control.test_monitoring import trained
from tests.unit.control.trials import ME, World

ONE, TWO = ("m", "1"), ("m", "2")


class Kept:
    """One gateway's references, and the versions whose references changed."""

    def __init__(self, folder: Path, world: World, pool: BlockingPool) -> None:
        async def step() -> None:
            """Steps are made by the tests."""

        self.changed: list[tuple[str, str]] = []
        self.store = MonitorStore(world.database, world.clock)
        self.files = ReferenceFiles(folder / "references")
        task = PeriodicTask("monitor", step, 1.0, clock=world.clock)
        self.references = References(self.store, self.files, pool, task, self.changed.append)

    def set(self, key: tuple[str, str], reference: Reference) -> None:
        asyncio.run(self.references.store(key, reference, ME))

    def take_over(self, **digests: str) -> bool:
        return asyncio.run(self.references.take_over({("m", name[1:]): digest for name, digest in digests.items()}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def kept(tmp_path: Path, world: World) -> Iterator[Kept]:
    pool = BlockingPool("test", 1, "the database", 10)
    yield Kept(tmp_path, world, pool)
    pool.close()


def test_a_reference_is_taken_over_once_and_goes_with_its_row(kept: Kept) -> None:
    reference = trained(rows=2000)
    kept.set(ONE, reference)
    assert ONE not in kept.references  # until the database is read
    assert kept.take_over(v1=reference.digest)
    assert not kept.take_over(v1=reference.digest)
    assert kept.references.get(ONE) == reference
    assert (kept.references.digest(ONE), len(kept.references)) == (reference.digest, 1)
    assert kept.files.read(reference.digest) is not None
    assert kept.take_over()
    assert ONE not in kept.references
    assert kept.changed == [ONE, ONE]


def test_one_that_is_on_the_disk_needs_no_database_and_another_does(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise NotReady("the database is away")

    reference, other = trained(rows=2000), trained(seed=1, rows=2000)
    kept.set(ONE, reference)
    kept.take_over(v1=reference.digest)
    kept.take_over()
    monkeypatch.setattr(MonitorStore, "reference", away)
    assert kept.take_over(v1=reference.digest)
    assert kept.references.get(ONE) == reference
    with pytest.raises(NotReady):
        kept.take_over(v1=reference.digest, v2=other.digest)
    assert kept.references.get(ONE) == reference


def test_one_of_an_unknown_form_holds_up_no_other(kept: Kept, world: World) -> None:
    reference = trained(rows=2000)
    kept.set(TWO, reference)
    kept.files.write("sha256:odd", {"form": "of a newer release"})
    assert kept.take_over(v1="sha256:odd", v2=reference.digest)
    assert kept.references.get(TWO) == reference
    assert ONE not in kept.references
    assert kept.references.problem(ONE)
    kept.set(ONE, reference)
    assert kept.references.problem(ONE) == ""
    assert kept.take_over(v1=reference.digest, v2=reference.digest)
    assert kept.references.get(ONE) == reference


def test_one_that_is_gone_from_the_database_meanwhile_is_not_taken_over(kept: Kept) -> None:
    kept.take_over(v1="sha256:gone")
    assert ONE not in kept.references
    assert kept.references.problem(ONE) == ""
    assert kept.changed == []
