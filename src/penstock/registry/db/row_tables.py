"""The tables about rows of requests: their exchange between gateways, rows for references, and erasures."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

_Json = JSON(none_as_null=True)

row_requests = Table(
    "row_requests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("asker", String(64), nullable=False),
    Column("model", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("share", Float, nullable=False),
    Column("for_exam", Boolean, nullable=False),
    Column("most_rows", BigInteger, nullable=False),
    Column("most_bytes", BigInteger, nullable=False),
    Column("deadline", Float, nullable=False),
)
"""Requests of the leading gateway for the captured rows of the others, each with a deadline (by the database's
clock)."""

row_answers = Table(
    "row_answers",
    metadata,
    Column("request", String(36), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("digest", String(80), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),
)
"""The answers to such requests: a file among the blobs (no digest: no rows), or the problem."""

gathered = Table(
    "gathered",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("answered", BigInteger, nullable=False),
    Column("rows", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
)
"""``number`` rows, packed, that a gateway has gathered of a version without a reference, from the requests that it has
``answered`` since it began; ``at`` is the time of submission. The rows are deleted when a reference is learned."""

erasures = Table(
    "erasures",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(128), nullable=False),
    Column("column", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("at", Float, nullable=False),
)
"""Requests to erase the rows of a subject, which has this value in this column, of a model ("" = of all)."""

erasure_reports = Table(
    "erasure_reports",
    metadata,
    Column("erasure", String(36), primary_key=True),
    Column("home", String(64), primary_key=True),
    Column("report", _Json, nullable=False),
)
"""What each home has removed."""
