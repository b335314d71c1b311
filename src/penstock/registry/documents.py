"""The admin API's documents of models, versions and archives."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from penstock.core.versions import sort_key
from penstock.registry.graphs.rewrite import FACT as REWRITE
from penstock.registry.graphs.rewrite import decode_rewrite
from penstock.registry.model_settings import encode_settings
from penstock.registry.records import (
    AdmissionReport,
    ApprovalRecord,
    Document,
    ModelRecord,
    SignatureRecord,
    VersionRecord,
    VersionState,
)
from penstock.registry.stores.audit_archive import AuditArchive

RETIRED = "RETIRED"
ADMITTED = "ADMITTED"
"""States of versions that no worker serves."""

LEFT_OUT = "the model's version policy leaves it out"


@dataclass(frozen=True, slots=True)
class VersionDisplay:
    """The status of a version beside its record; ``digest`` and ``report`` are used if there is no record. ``batching``
    says whether requests share its runs and why (None until a worker has loaded it)."""

    state: str
    reason: str = ""
    signature: Document | None = None
    digest: str = ""
    report: AdmissionReport | None = None
    batching: str | None = None


def model_document(record: ModelRecord, displays: Mapping[str, VersionDisplay], problem: str = "") -> Document:
    """Return the document of a model; ``shown`` has the status of its versions, ``problem`` says why none of them can
    be served ("" = they can)."""
    names = sorted({*record.versions, *displays}, key=sort_key)
    return (
        {
            "name": record.name,
            "revision": record.revision,
            "aliases": {alias.alias: alias.version for alias in record.aliases.values()},
            "alias_history": {alias.alias: [*alias.before] for alias in record.aliases.values()},
            "settings": encode_settings(record.settings),
            "versions": [_describe_version(record, version, displays.get(version)) for version in names],
        }
        | ({"reason": problem} if problem else {})
        | ({"problem": record.problem} if record.problem else {})
    )


def _describe_version(model: ModelRecord, version: str, display: VersionDisplay | None) -> Document:
    record = model.versions.get(version)
    report = record.report if record else display.report if display else None
    metadata = dict(record.metadata) if record else {}
    state, reason = _describe_state(record, display)
    return {
        "version": version,
        "state": state,
        "reason": reason,
        "digest": record.content.digest if record else (display.digest or None) if display else None,
        "size": record.content.size if record else None,
        "created_at": record.created_at if record else None,
        "created_by": record.created_by if record else None,
        "aliases": sorted(alias.alias for alias in model.aliases.values() if alias.version == version),
        "signature": (display.signature if display else None) or (report.facts.get("signature") if report else None),
        "signatures": [signature_document(item) for item in (record.signatures if record else ())],
        "approvals": [] if record is None else [_approval_document(record, item) for item in record.approvals],
        "batching": display.batching if display else None,
        "card": metadata.pop("card", None),
        "metadata": metadata,
        "admission": _describe_admission(report),
    }


def signature_document(signature: SignatureRecord) -> Document:
    """Return the document of a signature."""
    return {
        "digest": signature.digest,
        "signers": [*signature.signers],
        "added_at": _time_text(signature.added_at),
        "added_by": signature.added_by,
    }


def _approval_document(record: VersionRecord, approval: ApprovalRecord) -> Document:
    """Return the document of an approval; one of an earlier content of this name does not count."""
    counts = approval.digest == record.content.digest
    return {"actor": approval.actor, "at": _time_text(approval.at), "reason": approval.reason, "counts": counts}


def _time_text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _describe_state(record: VersionRecord | None, display: VersionDisplay | None) -> tuple[str, str]:
    if record is not None and record.state is VersionState.RETIRED:
        return RETIRED, ""
    return (display.state, display.reason) if display is not None else ("UNAVAILABLE", LEFT_OUT)


def _describe_admission(report: AdmissionReport | None) -> Document | None:
    if report is None:
        return None
    facts = {name: fact for name, fact in report.facts.items() if name not in ("signature", REWRITE)}
    if (rewrite := decode_rewrite(report.facts)) is not None:
        facts["served_digest"] = rewrite.digest
    return {"verdict": "admitted" if report.admitted else "refused", "reason": report.reason, **facts}


def archive_document(archive: AuditArchive) -> Document:
    """Return the document of an archive of the audit."""
    dropped = archive.dropped_at
    return {
        "name": archive.name,
        "from": archive.first_at,
        "to": archive.last_at,
        "rows": archive.entries,
        "bytes": archive.size,
        "digest": archive.digest,
        "dropped_at": None if dropped is None else datetime.fromtimestamp(dropped, UTC).isoformat(),
    }
