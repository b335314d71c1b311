"""The gates between a version and traffic: signatures, card, provenance, metrics and approvals; one list of results.

They are evaluated wherever a version gains traffic: when an alias moves, a route is set, or a rollout starts, goes on
or promotes. A version that has traffic keeps it, and loses it freely: gates never stand in the way back.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from penstock.core.routing import POINTS, RouteSpec
from penstock.core.stated_numbers import number_fault

Document = Mapping[str, Any]

MOST_NAMES = 64
MOST_SIGNERS = 16


class Gate(StrEnum):
    """The gates, in the order of their results."""

    SIGNATURE = "signature"
    CARD = "card"
    PROVENANCE = "provenance"
    METRICS = "metrics"
    APPROVAL = "approval"


@dataclass(frozen=True, slots=True)
class MetricBounds:
    """The bounds of a metric that was pushed with a version; None is no bound."""

    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class VersionGates:
    """What a version needs: so many trusted ``signatures``, fields of the model card and of the ``provenance``
    (metadata), ``metrics`` within bounds, and so many ``approvals``."""

    signatures: int = 0
    card: tuple[str, ...] = ()
    provenance: tuple[str, ...] = ()
    metrics: Mapping[str, MetricBounds] = field(default_factory=dict)
    approvals: int = 0


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What is known of a version: its metadata, the trusted signers of its content, why its signatures do not allow to
    serve it ("" = they do), who has approved it, and whether the configuration requires signatures."""

    metadata: Document = field(default_factory=dict)
    signers: tuple[str, ...] = ()
    signature_reason: str = ""
    approvers: tuple[str, ...] = ()
    must_be_signed: bool = False


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of one gate, with the reason if the version does not pass."""

    gate: Gate
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the version passes."""
        return not self.reason

    def to_document(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"gate": self.gate.value, "passed": self.passed, **({"reason": self.reason} if self.reason else {})}


def evaluate_gates(gates: VersionGates, facts: VersionFacts) -> list[GateResult]:
    """Return the result of every gate that is asked for."""
    card, metrics = facts.metadata.get("card"), facts.metadata.get("metrics")
    results = {
        Gate.SIGNATURE: _signature_reason(gates.signatures, facts),
        Gate.CARD: _missing_text("its card says nothing of", missing_fields(gates.card, card)),
        Gate.PROVENANCE: _missing_text("its metadata lacks", missing_fields(gates.provenance, facts.metadata)),
        Gate.METRICS: _metrics_reason(gates.metrics, metrics if isinstance(metrics, Mapping) else {}),
        Gate.APPROVAL: _count_reason(gates.approvals, len(facts.approvers), "approvals"),
    }
    asked = {
        Gate.SIGNATURE: bool(gates.signatures or facts.must_be_signed),
        Gate.CARD: bool(gates.card),
        Gate.PROVENANCE: bool(gates.provenance),
        Gate.METRICS: bool(gates.metrics),
        Gate.APPROVAL: bool(gates.approvals),
    }
    return [GateResult(gate, reason) for gate, reason in results.items() if asked[gate]]


def refusal_text(version: str, results: Iterable[GateResult]) -> str:
    """Return why a version may not gain traffic, "" if it may."""
    failed = [f"{result.gate.value}: {result.reason}" for result in results if not result.passed]
    return f"version '{version}' does not pass its gates: {'; '.join(failed)}" if failed else ""


def missing_fields(names: Iterable[str], document: Any) -> list[str]:
    """Return the fields that a document lacks, or has without a value."""
    fields = document if isinstance(document, Mapping) else {}
    return [name for name in names if fields.get(name) in (None, "", [], {})]


def _signature_reason(least: int, facts: VersionFacts) -> str:
    return facts.signature_reason or _count_reason(least, len(facts.signers), "trusted signatures")


def _count_reason(least: int, count: int, what: str) -> str:
    return "" if count >= least else f"it has {count} {what}, and {least} are required"


def _missing_text(what: str, names: list[str]) -> str:
    return f"{what} {', '.join(repr(name) for name in names)}" if names else ""


def _metrics_reason(bounds: Mapping[str, MetricBounds], metrics: Document) -> str:
    return "; ".join(reason for name, bound in bounds.items() if (reason := _metric_reason(name, bound, metrics)))


def _metric_reason(name: str, bound: MetricBounds, metrics: Document) -> str:
    value = metrics.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"it was pushed without the metric '{name}'"
    if bound.at_least is not None and not value >= bound.at_least:
        return f"its {name} is {value:g}; at least {bound.at_least:g} is required"
    if bound.at_most is not None and not value <= bound.at_most:
        return f"its {name} is {value:g}; at most {bound.at_most:g} is allowed"
    return ""


def gaining_versions(before: RouteSpec | None, answers: str | None, after: RouteSpec) -> set[str]:
    """Return the versions that get more traffic by a route than before; ``answers`` is the version that answers without
    a route (None = it is not known).

    A version that replaces others that cannot answer gains, unless it did so before.
    """
    shares = dict(before.split) if before is not None else {answers: POINTS}
    gaining = {version for version, weight in after.split.items() if weight > shares.get(version, 0)}
    ruled = set() if before is None else {rule.version for rule in before.rules}
    mirrored = {} if before is None else {item.version: item.percent for item in before.shadow}
    gaining |= {rule.version for rule in after.rules} - ruled
    gaining |= {item.version for item in after.shadow if item.percent > mirrored.get(item.version, 0)}
    known = {answers} if before is None else {before.stable}
    return gaining | ({after.stable} - known - {version for version, share in shares.items() if share} - {""})


def withheld_by_default(failing: Iterable[str], route: RouteSpec | None, aliases: Iterable[str]) -> set[str]:
    """Return the versions that do not pass their gates and have no traffic, by a route or an alias: they must not gain
    any because another version is missing, or because they are the newest."""
    routed = set() if route is None else {*route.receivers(), route.stable}
    return set(failing) - routed - set(aliases)


def parse_version_gates(stated: Any, path: str, faults: list[str]) -> VersionGates:
    """Parse gates from an operator; every error is added to ``faults`` with its path."""
    if not isinstance(stated, dict):
        faults.append(f"'{path}' must be an object")
        return VersionGates()
    before = len(faults)
    known = {"signatures", "card", "provenance", "metrics", "approvals"}
    faults += [f"'{path}.{name}' is not a gate" for name in sorted(set(stated) - known)]
    gates = VersionGates(
        _parse_number(stated.get("signatures", 0), f"{path}.signatures", faults),
        _parse_names(stated.get("card", []), f"{path}.card", faults),
        _parse_names(stated.get("provenance", []), f"{path}.provenance", faults),
        _parse_metrics(stated.get("metrics", {}), f"{path}.metrics", faults),
        _parse_number(stated.get("approvals", 0), f"{path}.approvals", faults),
    )
    return gates if len(faults) == before else VersionGates()


def _parse_number(value: Any, path: str, faults: list[str]) -> int:
    if fault := number_fault(path, value, 0, MOST_SIGNERS, whole=True):
        faults.append(fault)
        return 0
    return int(value)


def _parse_names(value: Any, path: str, faults: list[str]) -> tuple[str, ...]:
    good = (
        isinstance(value, list) and len(value) <= MOST_NAMES and all(isinstance(item, str) and item for item in value)
    )
    if not good:
        faults.append(f"'{path}' must be a list of at most {MOST_NAMES} names of fields")
        return ()
    return tuple(value)


def _parse_metrics(stated: Any, path: str, faults: list[str]) -> dict[str, MetricBounds]:
    if not isinstance(stated, dict) or len(stated) > MOST_NAMES:
        faults.append(f"'{path}' must give at most {MOST_NAMES} metrics their bounds")
        return {}
    return {str(name): _parse_bounds(bounds, f"{path}.{name}", faults) for name, bounds in stated.items()}


def _parse_bounds(stated: Any, path: str, faults: list[str]) -> MetricBounds:
    good = (
        isinstance(stated, dict)
        and bool(stated)
        and set(stated) <= {"at_least", "at_most"}
        and all(type(value) in (int, float) and math.isfinite(value) for value in stated.values())
    )
    if not good:
        faults.append(f"'{path}' must have at_least or at_most, with numbers")
        return MetricBounds()
    return MetricBounds(**stated)
