"""The tables of the registry; ``migrations`` brings a database to this form, and a test compares the two."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from penstock.registry.db.audit_tables import Json as _Json
from penstock.registry.db.audit_tables import Long as _Long
from penstock.registry.db.audit_tables import audit, audit_archives, audit_checkpoints
from penstock.registry.db.row_tables import erasure_reports, erasures, gathered, metadata, row_answers, row_requests

__all__ = [
    "audit",
    "audit_archives",
    "audit_checkpoints",
    "erasure_reports",
    "erasures",
    "gathered",
    "metadata",
    "row_answers",
    "row_requests",
]

REVISIONS = tuple(f"{number:04}" for number in range(1, 19))
"""All migrations, oldest first; the last one gives the tables below."""

registry = Table(
    "registry",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
"""One row: the id of the registry, and a number that grows by every change."""

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

signatures = Table(
    "signatures",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("bundle", Text, nullable=False),
    Column("signers", _Json, nullable=False),
    Column("added_at", Float, nullable=False),
    Column("added_by", String(128), nullable=False),
)
"""Bundles of versions, also of versions that are yet to be pushed; ``digest`` is that of the bundle."""

approvals = Table(
    "approvals",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("actor", String(128), primary_key=True),
    Column("digest", String(80), nullable=False),
    Column("at", Float, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Who has approved which content (``digest``) of a version."""

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("before", _Json, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("digest", String(64), nullable=False),
    Column("roles", _Json, nullable=False),
    Column("models", _Json, nullable=False),
    Column("quota", _Json, nullable=False),
    Column("created", Float, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
)
"""API keys: ``digest`` is the SHA-256 of the key; times are seconds since the epoch. Several may have one name, while a
new one replaces another."""

leases = Table(
    "leases",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("digest", String(80), nullable=False, index=True),
    Column("until", Float, nullable=False),
)
"""Leases on contents that are in use, each until a time (seconds since the epoch)."""

pending_deletions = Table(
    "condemned",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("since", Float, nullable=False),
)
"""Contents that are pending deletion."""

routes = Table(
    "routes",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("document", _Json, nullable=False),
)
"""The route of each model."""

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
"""Rollouts and experiments: their specification and state; ``revision`` grows by every write of a row."""

observations = Table(
    "observations",
    metadata,
    Column("trial", String(36), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("document", _Json, nullable=False),
)
"""The counts of each gateway for open trials."""

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
"""Events, with the fields of their CloudEvents."""

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
"""The reference of each version; ``used_at`` is the time when a gateway last served the version."""

policies = Table(
    "policies",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("document", _Json, nullable=False),
)
"""The policy of each model."""

rule_states = Table(
    "standings",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("document", _Json, nullable=False),
)
"""The state of each model's retraining rules; ``revision`` grows by every write of a row."""

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
"""The counts of each gateway for each version; the gateway ``""`` has those of ended gateways."""

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
"""The verdict on each version from the counts of all gateways; ``revision`` grows by every write of a row."""

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
"""The request counts of all gateways over time, for burn rates; ``slow_ms`` is the limit of slow requests."""

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
"""Batches of labelled rows that gateways have joined; of each version the newest."""

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
    Column("demand", _Json, nullable=False, server_default="{}"),
)
"""The gateways of the fleet, with the time of the last heartbeat (seconds since the epoch by the database's clock)."""

leadership = Table(
    "leadership",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("until", Float, nullable=False),
)
"""One row: the lease, with its holder, term and end (by the database's clock)."""

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
"""Feedback on answers of other gateways; it waits for the gateway that gave the answer."""

feedback_readers = Table(
    "feedback_readers",
    metadata,
    Column("reader", String(64), primary_key=True),
    Column("passed", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
)
"""Readers of feedback (stores of answers): the last number that each has passed, and when it last read."""
