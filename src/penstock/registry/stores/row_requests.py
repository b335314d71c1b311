"""Requests for the captured rows of gateways, of the one that leads or of an operator's command, and their answers.

Each method is one transaction, and blocks. The files are blobs; the gateway that wrote one and the one that asked for
it delete it when the request is closed.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from penstock.core.row_shares import NOTHING, WAIT_S, RequestProgress, RowAmount
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections, database_now
from penstock.registry.stores.connections import Connections


@dataclass(frozen=True, slots=True)
class RowRequest:
    """A request of the gateway ``asker`` to every other one: captured requests of a version without the ``share`` that
    is held out, or (``for_exam``) the held-out ones; at most ``most`` of them."""

    id: str
    asker: str
    model: str
    version: str
    share: float
    for_exam: bool
    most: RowAmount


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """The answer of a gateway: the digest of a file among the blobs ("" for none) and its amount, or the
    ``problem``."""

    gateway: str
    digest: str = ""
    amount: RowAmount = NOTHING
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RowRequestState:
    """The state of a request: the answers, and which gateways may still answer."""

    answers: tuple[RowAnswer, ...]
    progress: RequestProgress


class RowRequestStore:
    """Requests and answers; times are those of the database. Every method raises ``NotReady`` while the database cannot
    be reached or written. ``by_leader``: only the gateway that leads may ask."""

    def __init__(self, database: Connections, by_leader: bool = True) -> None:
        self._database = database
        self._asking: Connections = LeaderConnections(database) if by_leader else database

    # Whoever asks.

    def ask(self, request: RowRequest) -> None:
        """Ask every other gateway, for ``WAIT_S`` from now; raises ``NotLeading``."""
        with self._asking.recording() as connection:
            deadline = database_now(connection) + WAIT_S
            connection.execute(schema.row_requests.insert().values(**_make_values(request), deadline=deadline))

    def read_state(self, request: str) -> RowRequestState:
        """Return the state of a request."""
        requests, gateways = schema.row_requests, schema.gateways
        with self._database.reading() as connection:
            now = database_now(connection)
            left_s = connection.execute(sa.select(requests.c.deadline - now).where(requests.c.id == request)).scalar()
            heartbeats = connection.execute(sa.select(gateways.c.id, (now - gateways.c.seen).label("silent_s"))).all()
            answers = _read_answers(connection, request)
        silent_s = {row.id: max(0.0, float(row.silent_s)) for row in heartbeats}
        return RowRequestState(
            answers, RequestProgress({answer.gateway for answer in answers}, silent_s, float(left_s or 0.0))
        )

    def close(self, request: str) -> None:
        """Delete a request and its answers; raises ``NotLeading``."""
        with self._asking.recording() as connection:
            for table, key in ((schema.row_answers, "request"), (schema.row_requests, "id")):
                connection.execute(table.delete().where(table.c[key] == request))

    # The other gateways.

    def open(self, gateway: str) -> tuple[list[RowRequest], set[str]]:
        """Return the requests that a gateway may answer, and the ids of those that it has answered."""
        table, answers = schema.row_requests, schema.row_answers
        with self._database.reading() as connection:
            wanted = (table.c.asker != gateway, table.c.deadline > database_now(connection))
            rows = connection.execute(sa.select(table).where(*wanted).order_by(table.c.id)).all()
            done = set(connection.execute(sa.select(answers.c.request).where(answers.c.gateway == gateway)).scalars())
        return [_request(row) for row in rows if row.id not in done], done

    def answer(self, request: str, answer: RowAnswer) -> bool:
        """Store an answer, and return whether the request still waits for it."""
        table, answers = schema.row_requests, schema.row_answers
        with self._database.recording() as connection:
            due = (table.c.id == request, table.c.deadline > database_now(connection))
            if connection.execute(sa.select(table.c.id).where(*due)).first() is None:
                return False
            values = {"digest": answer.digest, "number": answer.amount.rows, "size": answer.amount.size}
            connection.execute(
                answers.insert().values(request=request, gateway=answer.gateway, problem=answer.problem, **values)
            )
        return True


def _make_values(request: RowRequest) -> dict[str, object]:
    values = {name: getattr(request, name) for name in RowRequest.__slots__ if name != "most"}
    return {**values, "most_rows": request.most.rows, "most_bytes": request.most.size}


def _request(row: sa.Row[tuple[object, ...]]) -> RowRequest:
    values = {name: getattr(row, name) for name in RowRequest.__slots__ if name != "most"}
    return RowRequest(**values, most=RowAmount(row.most_rows, row.most_bytes))


def _read_answers(connection: sa.Connection, request: str) -> tuple[RowAnswer, ...]:
    table = schema.row_answers
    rows = connection.execute(sa.select(table).where(table.c.request == request).order_by(table.c.gateway))
    return tuple(RowAnswer(row.gateway, row.digest, RowAmount(row.number, row.size), row.problem) for row in rows)
