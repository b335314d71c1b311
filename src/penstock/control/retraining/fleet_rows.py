"""Requests captured rows from the other gateways of a fleet, and reads their answers.

The gateway that leads writes a request into the database; every other one answers it (``row_answers``) with a file in
the blobs that all share. A request is over when all that live have answered, or after ``WAIT_S``.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import DataLoss, Fault
from penstock.core.row_shares import (
    NOTHING,
    GatewaySelection,
    GatewayShare,
    RowAmount,
    gateway_limit,
    missing_gateways,
    select_gateways,
)
from penstock.monitor.answer_segments import ANSWERS
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.capture import CAPTURES
from penstock.monitor.captured_rows import CapturedRows, ExportedRows, RowSelection
from penstock.registry.blobs.folder import CHANGED, BlobStore, hash_file
from penstock.registry.stores.gateways import GatewayStore
from penstock.registry.stores.row_requests import RowAnswer, RowRequest, RowRequestStore

POLL_S = 0.5
NOT_SHARED = "its rows cannot be read here; let 'blobs' be a bucket or a folder that all gateways share"


def captured_at(home: Path) -> CapturedRows:
    """Return the captured rows of this home's gateway, for one thread."""
    return CapturedRows(home / CAPTURES, AnswerStore(home / ANSWERS))


def home_name(home: Path) -> str:
    """Return the identity of the home, "" if it cannot be stored. Blocks."""
    try:
        return AnswerStore(home / ANSWERS).name()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class ReceivedRows:
    """The rows from the gateways, and why others are missing."""

    parts: tuple[ExportedRows, ...]
    missing: dict[str, str]


class FleetRows:
    """The part of the leader, which is called ``gateway`` and has captured the rows in ``home``. Blocks; any
    thread may use it. ``pause`` waits for so many seconds."""

    def __init__(
        self,
        requests: RowRequestStore,
        gateways: GatewayStore,
        blobs: Callable[[], BlobStore],
        gateway: str,
        home: Path,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._requests = requests
        self._gateways = gateways
        self._blobs = blobs
        self._gateway = gateway
        self._home = home
        self._pause = pause

    def call_roll(self) -> GatewaySelection:
        """Return the gateways to query; raises ``NotReady``."""
        gateways = self._gateways.fleet().gateways
        members = [GatewayShare(item.gateway.id, item.gateway.home, item.silent_s) for item in gateways]
        return select_gateways(members, self._gateway, home_name(self._home))

    @contextmanager
    def collect(
        self, roll: GatewaySelection, selection: RowSelection, most: RowAmount, scratch: Path
    ) -> Iterator[ReceivedRows]:
        """What is meant of every gateway, each within its bound, for the time of a block; ``scratch`` is a folder for
        this gateway's own file.

        Raises:
            NotReady: the database is away, or this gateway does not lead.
        """
        bound, blobs = gateway_limit(most, len(roll.asked) + 1), self._blobs()
        stated = selection.model, selection.version, selection.share, selection.for_exam
        request = RowRequest(str(uuid.uuid4()), self._gateway, *stated, bound)
        self._requests.ask(request)
        try:
            own = self._own(request, selection, scratch / "own.rows")
            answers, missing = self._answers(request.id, roll)
            parts, unread = _read(blobs, answers)
            yield ReceivedRows((own, *parts), {**roll.missing, **missing, **unread})
        finally:
            self._close(request.id, blobs)

    def _own(self, request: RowRequest, selection: RowSelection, file: Path) -> ExportedRows:
        owner = {"request": request.id, "gateway": self._gateway}
        with file.open("wb") as output:
            amount = captured_at(self._home).export_newest(selection, request.most, owner, output.write)
        return ExportedRows(self._gateway, file, amount)

    def _answers(self, request: str, roll: GatewaySelection) -> tuple[list[RowAnswer], dict[str, str]]:
        """Return the answers of the queried gateways, when none is awaited any longer, and why others are missing."""
        while True:
            look = self._requests.read_state(request)
            missing = missing_gateways(roll.asked, look.progress)
            if missing is not None:
                return [answer for answer in look.answers if answer.gateway in roll.asked], missing
            self._pause(POLL_S)

    def _close(self, request: str, blobs: BlobStore) -> None:
        with suppress(Fault):  # whoever has handed a file over deletes it, and the janitor deletes the rows
            for answer in self._requests.read_state(request).answers:
                if answer.digest:
                    blobs.delete(answer.digest)
            self._requests.close(request)


def _read(blobs: BlobStore, answers: list[RowAnswer]) -> tuple[list[ExportedRows], dict[str, str]]:
    """Return the readable files, and why others cannot be read."""
    parts, problems = list[ExportedRows](), dict[str, str]()
    for answer in answers:
        try:
            if answer.problem:
                problems[answer.gateway] = answer.problem
            elif answer.digest:
                parts.append(ExportedRows(answer.gateway, _fetch(blobs, answer.digest), answer.amount))
            else:
                parts.append(ExportedRows(answer.gateway, Path("/dev/null"), NOTHING))
        except DataLoss as fault:
            problems[answer.gateway] = f"{fault}: {NOT_SHARED}"
        except Fault as fault:
            problems[answer.gateway] = str(fault)
    return parts, problems


def _fetch(blobs: BlobStore, digest: str) -> Path:
    file = blobs.fetch(digest)
    if hash_file(file) != digest:
        raise DataLoss(CHANGED)
    return file
