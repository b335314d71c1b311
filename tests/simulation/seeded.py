"""A run from its seed: everything random follows from it, and everything slow is shared by the runs of a process."""

import asyncio
import logging
import random
import tempfile
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from unittest.mock import patch

from penstock.control import periodic
from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring import fleet_evidence, publisher
from penstock.control.retraining import dispatcher
from penstock.core.versions import CHAMPION
from penstock.monitor import performance
from penstock.registry import registry
from penstock.registry.db.database import Database
from penstock.registry.records import Author, VersionRecord
from penstock.registry.stores import evidence, outbox, retention, traffic
from penstock.registry.stores.versions import VersionStore
from tests.simulation import invariants
from tests.simulation.database import Databases
from tests.simulation.faults import CHANGES, FAILED, WRITTEN, Bucket, WatchedLeaderConnections, report_problem
from tests.simulation.gateway import World
from tests.simulation.loop import EPOCH, VirtualLoop, result, submit
from tests.simulation.operations import MODELS, content_of, octets_of
from tests.simulation.run import Run

FIRST = tuple((model, version) for model in MODELS for version in ("1", "2", "3"))
"""The versions there are at the beginning."""

METADATA = {"metrics": {"accuracy": 0.8}}
MEMORY = Path("/dev/shm")

RETIRED_S = 15.0
"""After this time without a word a gateway's counts are added to those of gateways that have ended."""


PHASE = 0.5
"""When tasks wake up, as a share of their grid; that of a real gateway is of its process."""

LED = (evidence, outbox, retention, traffic)
"""Modules whose stores write as the leader."""


class Breach(AssertionError):
    """An invariant does not hold; says the seed and the step, and what happened before. ``invariant`` is the name of
    the function that checks it, "" where something else went wrong."""

    def __init__(self, text: str, invariant: str) -> None:
        super().__init__(text)
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that went well: a digest of everything it left in the audit, and how often each thing happened."""

    digest: str
    counts: Counter[str]


@cache
def databases() -> Databases:
    with patch.object(uuid, "uuid4", lambda: uuid.UUID(int=0, version=4)):  # of the registry: the audit begins with it
        return Databases(_fill)


def _fill(database: Database) -> None:
    """Write some versions down."""
    store, at = VersionStore(database, lambda: EPOCH), datetime.fromtimestamp(EPOCH, UTC).isoformat()
    for model, version in FIRST:
        store.add_version(
            VersionRecord(model, version, content_of(model, version), at, "setup", metadata=METADATA), Author("setup")
        )
        store.aliases.move(model, CHAMPION, "1", Author("setup"))


def nothing_to_compare(_: object, __: float) -> None:
    """Stands in for detectors whose alarms are shown beside those that count."""


@contextmanager
def _seeded(chance: random.Random) -> Iterator[None]:
    """Let everything random follow from the seed, and keep the log still."""
    state, disabled = random.getstate(), logging.root.manager.disable
    random.seed(chance.getrandbits(64))
    for found in (WRITTEN, FAILED, CHANGES):
        found.clear()
    logging.disable(logging.CRITICAL)
    try:
        with ExitStack() as stack:
            patches: tuple[AbstractContextManager[object], ...] = (
                patch.object(uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
                patch.object(BlockingPool, "submit", submit),
                patch.object(BlockingPool, "result", result),
                patch.object(threading.Thread, "start", _no_thread),
                patch.object(registry, "COMMIT_PAUSE_S", 0.0),
                patch.object(periodic, "phase_of", lambda _: PHASE),
                *(patch.object(item, "RETIRED_S", RETIRED_S) for item in (evidence, publisher)),
                patch.object(fleet_evidence, "RETIRE_EVERY", 2),
                patch.object(periodic.ProblemLog, "report", report_problem),
                patch.object(performance._Errors, "_observe_others", nothing_to_compare),
                *(patch.object(item, "LeaderConnections", WatchedLeaderConnections) for item in LED),
            )
            for patched in patches:
                stack.enter_context(patched)
            yield
    finally:
        random.setstate(state)
        logging.disable(disabled)


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("the simulation starts no thread: what threads do is not in virtual time")


def simulate(seed: int) -> Outcome:
    """Do one run; the same seed is the same run.

    Raises:
        Breach: an invariant does not hold.
    """
    chance, loop = random.Random(seed), VirtualLoop()
    with (
        closing(loop),
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        databases().begun(loop.wall) as opened,
        _seeded(chance),
    ):
        bucket = Bucket(chance)
        bucket.contents = {content_of(*key).digest: octets_of(*key) for key in FIRST}
        return _ran(seed, Run(World(loop, chance, Path(folder), opened, bucket)), loop)


def _invariant_of(error: Exception) -> str:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    last = frames[-1].f_code
    is_one = isinstance(error, AssertionError) and last.co_filename == invariants.__file__
    return last.co_name if is_one else ""


def _ran(seed: int, run: Run, loop: VirtualLoop) -> Outcome:
    try:
        with patch.object(dispatcher, "send", run.send):
            loop.run_until_complete(run.live())
    except Exception as error:
        reported, invariant = "\n".join(run.trace[-40:]), _invariant_of(error)
        raise Breach(f"seed {seed}, step {run.step}: {invariant}: {error!r}\n{reported}", invariant) from error
    finally:
        run.close()
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*remaining, return_exceptions=True))
    return Outcome(run.digest(), run.counts)
