"""The registry's values: models, versions, contents, admission reports, settings, and lines of the audit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from penstock.core.model_signing import BUNDLE_FILE
from penstock.core.routing import RouteSpec
from penstock.core.versions import VersionPolicy
from penstock.registry.graphs.rewrite import Rewrite, decode_rewrite

Document = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, why, and how it came; all of it is stored in the audit.

    ``actor`` is the caller's name. ``method`` says how that name is known (``CallerKind``), ``key_id`` by which API
    key. ``address`` and ``request_id`` are those of the request. ``on_behalf_of`` is the name that the caller says to
    act for.
    """

    actor: str
    reason: str = ""
    method: str = ""
    key_id: str = ""
    address: str = ""
    request_id: str = ""
    on_behalf_of: str = ""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a version: its path below the version's folder (POSIX, relative), its SHA-256 (hex) and bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """A pushed content: ``digest`` (``sha256:`` and hex) is that of the pushed bytes, in either form.

    ``files`` are the files that serving needs; ``graph`` is the path of the graph among them. A pushed graph is one
    file named ``model.onnx``; a tar has its own names. ``config`` is the model configuration in the tar, in protobuf
    JSON form ("" = none).
    """

    digest: str
    size: int
    form: Literal["onnx", "tar"]
    files: tuple[FileRecord, ...]
    graph: str = "model.onnx"
    config: str = ""

    @property
    def signed_files(self) -> dict[str, str]:
        """What signatures must cover: the files as they were pushed (name to SHA-256 in hex), except the bundle."""
        if self.form == "onnx":
            return {self.graph: self.digest.removeprefix("sha256:")}
        return {file.path: file.digest for file in self.files if file.path != BUNDLE_FILE}


@dataclass(frozen=True, slots=True)
class ExaminedContent:
    """A content to be examined: its graph, its configuration (protobuf JSON, "" = none), and the folders it may read.

    ``weights`` is the folder that may hold the graph's weights, None if the graph must contain them all; ``base`` is
    the folder of label and warm-up files.
    """

    graph: Path
    config: str = ""
    weights: Path | None = None
    base: Path | None = None


@dataclass(frozen=True, slots=True)
class AdmissionReport:
    """The admission report of a content; ``reason`` is "" if it was admitted, else a sentence for callers.

    ``detail`` is the whole reason for operators, if the sentence omits a part. ``facts`` are for people: ops (name to
    count), opset (domain to version), signature, memory_bytes, p50_us, independent_rows (whether the graph proves it,
    and where not), zipmap (the names of the classes by output, if maps were cut), guarded_divisions, guarded_dimensions
    and guarded_sizes (operator and node of each), rewrite (how the graph was changed), probes (inputs and output
    digests), runtime, took_ms.
    """

    reason: str = ""
    facts: Document = field(default_factory=dict)
    detail: str = ""

    @property
    def admitted(self) -> bool:
        """Whether the content may serve."""
        return not self.reason

    @property
    def whole(self) -> str:
        """The whole reason, for logs and operators."""
        return self.detail or self.reason


@dataclass(frozen=True, slots=True)
class SignatureRecord:
    """One bundle of a version: its digest, the trusted signers when it was added, and who added it when (seconds since
    the epoch)."""

    digest: str
    signers: tuple[str, ...] = ()
    added_at: float = 0.0
    added_by: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """Who has approved the content of a version, by its digest, and why; ``at`` is in seconds since the epoch."""

    actor: str
    digest: str
    at: float = 0.0
    reason: str = ""


class VersionState(StrEnum):
    """The state of a version in the registry."""

    ADMITTED = "admitted"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class PreparationPlan:
    """The preparation that a graph needs before its examination.

    ``refusal`` says why it cannot be examined; ``weights`` are the names of the files with weights, as the graph states
    them; ``facts`` are added to its report.
    """

    refusal: AdmissionReport | None = None
    weights: tuple[str, ...] = ()
    facts: Document = field(default_factory=dict)

    @property
    def rewrite(self) -> Rewrite | None:
        """The rewrite that the graph needs to be served, None without one."""
        return decode_rewrite(self.facts)

    def completed(self, report: AdmissionReport) -> AdmissionReport:
        """Return a report with the facts of the preparation."""
        return replace(report, facts={**report.facts, **self.facts})


class AdmissionExaminer(Protocol):
    """Examines contents; both methods raise ``NotReady`` or ``Overloaded`` if that is not possible now."""

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        """Return the preparation that a graph needs; reads only the graph of the subject."""

    async def examine(self, subject: ExaminedContent) -> AdmissionReport:
        """Return the report of a content as it would be served."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version of a model; ``created_at`` is UTC in ISO 8601. ``metadata`` holds what ``core.lineage`` allows."""

    model: str
    version: str
    content: Content
    created_at: str
    created_by: str
    state: VersionState = VersionState.ADMITTED
    metadata: Document = field(default_factory=dict)
    report: AdmissionReport = field(default_factory=AdmissionReport)
    signatures: tuple[SignatureRecord, ...] = ()
    approvals: tuple[ApprovalRecord, ...] = ()

    @property
    def approvers(self) -> tuple[str, ...]:
        """The actors who have approved this content."""
        return tuple(item.actor for item in self.approvals if item.digest == self.content.digest)

    @property
    def rewrite(self) -> Rewrite | None:
        """The rewrite of the graph for serving, None if it is served as it was pushed."""
        return decode_rewrite(self.report.facts)


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """A name for a version; ``before`` has its earlier versions, oldest first, for roll-backs."""

    alias: str
    version: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AliasMove:
    """A move of an alias: its version before and after (None: it was deleted), and the model's revision.

    It is ``overridden``, and so has no effect, while a route decides which version answers.
    """

    revision: int
    before: str | None
    after: str | None
    overridden: bool = False

    @property
    def note(self) -> dict[str, str]:
        """A note for the actor of an overridden move, empty for others."""
        if not self.overridden:
            return {}
        effect = "its removal" if self.after is None else "the alias"
        return {
            "note": f"a route decides which version answers; {effect} takes effect when the route is dropped, or when "
            "the rollout or experiment that has set it ends"
        }


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model's versions are brought in and out of service.

    ``availability`` loads the new version before the old one goes, ``resources`` unloads first and loads then.
    ``keep_warm_s``: seconds a version stays loaded after the policy has let it go, for an instant way back.
    """

    versions: VersionPolicy = field(default_factory=VersionPolicy)
    transition: Literal["availability", "resources"] = "availability"
    keep_warm_s: float = 300.0


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model in the registry; ``revision`` grows by every change of it. Retired versions are included.

    ``problem`` says why it could not be read ("" = it could); the other fields are then the last known ones.
    ``withheld`` are versions that do not pass their gates: they answer only calls that name them.
    """

    name: str
    revision: int
    versions: Mapping[str, VersionRecord] = field(default_factory=dict)
    aliases: Mapping[str, AliasRecord] = field(default_factory=dict)
    settings: ModelSettings = field(default_factory=ModelSettings)
    route: RouteSpec | None = None
    problem: str = ""
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the append-only audit; ``subject`` is such as ``models/digits/aliases/champion``.

    The fields from ``method`` on are those of ``Author``; ``hash`` is the hash of the chain (hexadecimal).
    """

    seq: int
    at: str
    actor: str
    action: str
    subject: str
    reason: str
    before: Document | None
    after: Document | None
    method: str = ""
    key_id: str = ""
    address: str = ""
    request_id: str = ""
    on_behalf_of: str = ""
    hash: str = ""
