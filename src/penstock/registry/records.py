"""The plain values of the registry: what a version is, what admission found, and who changed what."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from penstock.core.routing import RouteSpec
from penstock.core.versions import VersionPolicy
from penstock.registry.graphs.rewrite import Rewrite, rewrite_in

Document = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something, and why; both are kept in the audit."""

    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a version: its path below the version's folder (POSIX, relative), its SHA-256 (hex) and bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """What was pushed: ``digest`` (``sha256:`` and hex) is that of the pushed bytes, whatever their form.

    ``files`` lists what serving needs; ``graph`` is the path of the graph among them. A pushed graph is one file
    named ``model.onnx``; a tar brings its own names. ``config`` is the model configuration the tar brought, in
    protobuf JSON form ("" = none).
    """

    digest: str
    size: int
    form: Literal["onnx", "tar"]
    files: tuple[FileRecord, ...]
    graph: str = "model.onnx"
    config: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A content to be examined: its graph, its configuration (protobuf JSON, "" = none), and what it may read beside.

    ``weights`` is the folder that may hold the graph's weights, None where it must bring them all; ``base`` the one
    where label and warm-up files lie.
    """

    graph: Path
    config: str = ""
    weights: Path | None = None
    base: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What the admission of a content found; ``reason`` is "" where it was admitted, else a sentence for callers.

    ``detail`` is the whole reason, for operators, where that sentence leaves something out. ``facts`` is shown to
    people: ops (name to count), opset (domain to version), signature, memory_bytes, p50_us, independent_rows (whether
    the graph proves it, and where not), zipmap (the names of the classes, by output, where maps were cut),
    guarded_divisions, guarded_dimensions and guarded_sizes (operator and node of each), rewrite (how the graph was
    changed), probes (inputs and output digests), runtime, took_ms.
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


class VersionState(StrEnum):
    """Where a version stands in the registry."""

    ADMITTED = "admitted"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a graph needs before it can be examined.

    ``refusal`` says why it cannot be at all; ``weights`` names the files beside the graph that hold weights, as the
    graph does; ``facts`` are to be added to its report.
    """

    refusal: Report | None = None
    weights: tuple[str, ...] = ()
    facts: Document = field(default_factory=dict)

    @property
    def rewrite(self) -> Rewrite | None:
        """How the graph has to be changed to be served."""
        return rewrite_in(self.facts)

    def completed(self, report: Report) -> Report:
        """A report with what was changed before it."""
        return replace(report, facts={**report.facts, **self.facts})


class Admission(Protocol):
    """Examines contents; both methods raise ``NotReady`` or ``Overloaded`` when it cannot be done now."""

    async def plan(self, subject: Subject) -> Plan:
        """What a graph needs before it is examined; nothing else of the subject is looked at."""

    async def examine(self, subject: Subject) -> Report:
        """What is found of a content as it would be served."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version of a model; ``created_at`` is UTC in ISO 8601. ``metadata`` holds what ``core.lineage`` allows."""

    model: str
    version: str
    content: Content
    created_at: str
    created_by: str
    standing: VersionState = VersionState.ADMITTED
    metadata: Document = field(default_factory=dict)
    report: Report = field(default_factory=Report)

    @property
    def rewrite(self) -> Rewrite | None:
        """How the content's graph is changed to be served, None where it is served as it was pushed."""
        return rewrite_in(self.report.facts)


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """A name for a version; ``before`` holds the versions it stood for earlier, oldest first: the way back."""

    alias: str
    version: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """An alias that has moved: where it led, where it leads (None: it is gone), and the model's revision.

    It is ``overridden`` while a route decides who answers: then it has no effect.
    """

    revision: int
    before: str | None
    after: str | None
    overridden: bool = False

    @property
    def note(self) -> dict[str, str]:
        """What whoever moved it has to know."""
        if not self.overridden:
            return {}
        effect = "its removal" if self.after is None else "the alias"
        return {
            "note": f"a route decides who answers; {effect} takes effect when that is dropped, or the rollout or "
            "experiment that has set it ends"
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
    """A model as the registry has it; ``revision`` grows by every change of it. Retired versions are listed too.

    ``problem`` says why it could not be read ("" = it could); what else is here is then what was read of it before.
    """

    name: str
    revision: int
    versions: Mapping[str, VersionRecord] = field(default_factory=dict)
    aliases: Mapping[str, AliasRecord] = field(default_factory=dict)
    settings: ModelSettings = field(default_factory=ModelSettings)
    route: RouteSpec | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the append-only audit; ``subject`` is such as ``models/digits/aliases/champion``."""

    seq: int
    at: str
    actor: str
    action: str
    subject: str
    reason: str
    before: Document | None
    after: Document | None
