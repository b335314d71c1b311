"""The tables of the registry; ``migrations`` brings a database to this shape, and a test holds the two together."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012", "0013")
"""Every migration there has been, oldest first; the last is the shape below."""

_Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER alone
_Json = JSON(none_as_null=True)

metadata = MetaData()

registry = Table(
    "registry",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
"""One row: whose registry this is, and a number that grows by every change."""

models = Table(
    "models",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("settings", _Json, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("digest", String(80), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("form", String(8), nullable=False),
    Column("files", _Json, nullable=False),
    Column("graph", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("standing", String(16), nullable=False),
    Column("retired_at", Float),
    Column("metadata", _Json, nullable=False),
    Column("reason", Text, nullable=False),
    Column("facts", _Json, nullable=False),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("before", _Json, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=True),
    Column("at", String(40), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(40), nullable=False),
    Column("model", String(128), nullable=False, index=True),
    Column("subject", String(400), nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", _Json),
    Column("after", _Json),
    sqlite_autoincrement=True,
)
"""Append-only: triggers refuse every update, and the deletion of what is in no archive."""

audit_archives = Table(
    "audit_archives",
    metadata,
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("first_at", String(40), nullable=False),
    Column("last_at", String(40), nullable=False),
    Column("entries", Integer, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("dropped_at", Float),
)
"""Ranges of the audit that were moved into files, each in the blobs by its digest; triggers keep these rows."""

leases = Table(
    "leases",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("digest", String(80), nullable=False, index=True),
    Column("until", Float, nullable=False),
)
"""Contents somebody is working with, each until a time (seconds since the epoch)."""

condemned = Table(
    "condemned",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("since", Float, nullable=False),
)
"""Contents that are being deleted at this moment."""

routes = Table(
    "routes",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("document", _Json, nullable=False),
)
"""How each model's traffic is divided."""

trials = Table(
    "trials",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(128), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("open", Boolean, nullable=False, index=True),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("document", _Json, nullable=False),
)
"""Rollouts and experiments: what was asked for and how it stands; ``revision`` grows by every write of a row."""

observations = Table(
    "observations",
    metadata,
    Column("trial", String(36), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("document", _Json, nullable=False),
)
"""What each gateway has counted so far for a trial that is open."""

events = Table(
    "events",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("at", String(40), nullable=False),
    Column("type", String(80), nullable=False),
    Column("model", String(128), nullable=False, index=True),
    Column("subject", String(400), nullable=False),
    Column("data", _Json, nullable=False),
    sqlite_autoincrement=True,
)
"""What happened, as the CloudEvents it is told as."""

references = Table(
    "references",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("digest", String(80), nullable=False),
    Column("source", String(16), nullable=False),
    Column("document", _Json, nullable=False),
    Column("used_at", Float),
)
"""What each version's data looked like; ``used_at`` is when a gateway last told that it serves the version."""

policies = Table(
    "policies",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("document", _Json, nullable=False),
)
"""What is to be watched of each model."""

standings = Table(
    "standings",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("document", _Json, nullable=False),
)
"""What each model's retraining rules remember; ``revision`` grows by every write of a row."""

outbox = Table(
    "outbox",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=True),
    Column("event", String(80), nullable=False),
    Column("model", String(128), nullable=False),
    Column("sink", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("error", Text, nullable=False),
    UniqueConstraint("event", "sink"),
    sqlite_autoincrement=True,
)
"""Events on their way to sinks: ``pending``, ``sent`` or ``dead``."""

counts = Table(
    "counts",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("layout", String(64), nullable=False),
    Column("workers", Integer, nullable=False),
    Column("words", LargeBinary, nullable=False),
    Column("block", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
    Column("outcomes", _Json, nullable=False, server_default="{}"),
)
"""What each gateway has counted so far of each version, and (of the gateway ``""``) what ended ones have."""

verdicts = Table(
    "verdicts",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("layout", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("evidence", _Json, nullable=False),
    Column("summary", _Json, nullable=False),
    Column("document", _Json, nullable=False),
)
"""What is concluded from the counts of all gateways; ``revision`` grows by every write of a row."""

request_history = Table(
    "request_history",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False, index=True),
    Column("version", String(64), nullable=False),
    Column("slow_ms", Float, nullable=False),
    Column("at", Float, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("slow", BigInteger, nullable=False),
)
"""What all gateways had counted of a version's requests at a time, for burn rates; ``slow_ms`` says what is slow."""

labelled = Table(
    "labelled",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("model", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("gateway", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("rows", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
"""Rows that gateways have joined with labels, batch by batch; of each version the newest."""

gateways = Table(
    "gateways",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("release", String(64), nullable=False),
    Column("started", Float, nullable=False),
    Column("seen", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("serves", _Json, nullable=False),
    Column("home", String(64), nullable=False, server_default=""),
)
"""The gateways of the fleet, and when each was last heard of (seconds since the epoch, as the database has it)."""

leadership = Table(
    "leadership",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("until", Float, nullable=False),
)
"""One row: the gateway that decides for all, in which term, and until when (as the database has it)."""

feedback = Table(
    "feedback",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False),
    Column("at", Float, nullable=False, index=True),
    Column("told", _Json, nullable=False),
    Column("size", Integer, nullable=False),
    sqlite_autoincrement=True,
)
"""What was told of answers that the gateway that was told did not give; it waits for the one that did."""

feedback_readers = Table(
    "feedback_readers",
    metadata,
    Column("reader", String(64), primary_key=True),
    Column("passed", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
)
"""Memories of answers: which feedback each has looked at, and when it did last."""

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
"""Captured rows that the gateway that leads asks the others for, until a time (as the database has it)."""

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
"""What each gateway has handed over for such a request: a file in the blobs (no digest: no rows), or why it cannot."""

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
"""``number`` rows that a gateway has gathered of a version without a reference, packed, out of the requests that it has
answered since it began; ``at`` is when it handed them in. They go with the reference that is learned of them."""
