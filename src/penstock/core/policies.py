"""The policy of a model: what to monitor, capture and send, as stated and as applied."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.sinks import SinkOrigin, SinkSpec, parse_sinks
from penstock.core.stated_numbers import number_fault
from penstock.core.texts import shorten
from penstock.core.triggers.parsing import ScheduleParser, parse_limits, parse_triggers
from penstock.core.triggers.reachability import MonitoringCoverage, find_unreachable
from penstock.core.triggers.rules import RuleLimits, Trigger
from penstock.core.value_patterns import PATTERNS
from penstock.core.version_gates import VersionGates, parse_version_gates

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MonitorPolicy:
    """How a model's rows are watched.

    ``sample``: share of rows counted, 0 for none. ``window_s``: what effect sizes look back on. ``budget``: rows
    between false alarms, of all features together; ``daily``: at most so many false alarms of drift a day on average as
    well, and as many of what labels are watched for, 0 for no such bound. ``live_rows``: rows that a reference is
    learned from where none was pushed, of at least ``live_requests`` requests over ``live_s``, of which one client
    gives ``live_share`` at most. ``horizon_s``: labels may come so long after their answer; 0 remembers none.
    ``slices``: features by whose values rows are watched apart as well. ``explained_rate``: live rows of each version
    that a gateway explains a second, for the importance of features and its drift; 0 for none. ``capture``: share of
    requests kept as they were, in ``capture_bytes`` of files on each gateway, without what is ``masked`` by names or by
    ``patterns`` of values. ``triggers``: when to ask for training, within ``limits``; ``sinks``: where that is sent,
    those of the configuration too. ``gates``: what a version needs before it gains traffic. ``rules`` are those parts
    as they were written.
    """

    sample: float = 1.0
    window_s: float = 300.0
    budget: float = 100_000.0
    daily: float = 0.0
    live_rows: int = 10_000
    live_requests: int = 100
    live_s: float = 10.0
    live_share: float = 0.5
    horizon_s: float = 7 * 86_400.0
    slices: tuple[str, ...] = ()
    explained_rate: float = 0.0
    capture: float = 0.0
    capture_bytes: int = 256 << 20
    masked: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    limits: RuleLimits = field(default_factory=RuleLimits)
    sinks: Mapping[str, SinkSpec] = field(default_factory=dict)
    gates: VersionGates = field(default_factory=VersionGates)
    rules: Mapping[str, Any] = field(default_factory=dict)

    @property
    def objectives(self) -> Mapping[str, float]:
        """Return the service-level objectives (``slo``) by name."""
        stated: Mapping[str, float] = self.rules.get("slo", {})
        return stated

    @property
    def own_sinks(self) -> Mapping[str, SinkSpec]:
        """Return the sinks that the policy itself declares."""
        return {name: self.sinks[name] for name in self.rules.get("sinks", ())}


@dataclass(frozen=True, slots=True)
class FleetAlarms:
    """At most ``daily`` false alarms of drift, and of labels, a day in a fleet of ``gateways``, all versions together;
    0 is no bound.

    Each version on each gateway gets an equal part: the expected numbers of false alarms add up, however versions and
    gateways depend on each other.
    """

    daily: float = 0.0
    gateways: int = 1

    def share_of(self, policy: MonitorPolicy, versions: int) -> MonitorPolicy:
        """Return the policy of one of this number of versions that a gateway serves, within the fleet's bound."""
        if not self.daily:
            return policy
        part = self.daily / (self.gateways * max(1, versions))
        return replace(policy, daily=min(part, policy.daily) if policy.daily else part)

    def to_api(self, versions: int) -> dict[str, Any]:
        """Return the policy for the admin API."""
        return {"false_alarms_per_day": self.daily or None, "gateways": self.gateways, "versions": versions}


NO_FLEET_BOUND = FleetAlarms()

RULES = ("slo", "gates", "triggers", "retraining", "sinks")
"""Parts of a policy that are returned as they were written."""

_SLO = {"latency_p99_ms": 86_400_000.0, "error_ratio": 1.0}

MOST_SLICES = 4
MOST_MASKED = 256
MOST_CAPTURE_BYTES = 1 << 40

_FIELDS = {
    # word: field, least, most, whole
    "sample": ("sample", 0, 1.0, False),
    "window_seconds": ("window_s", 5, 7 * 86_400, False),
    "rows_between_false_alarms": ("budget", 100, 1e12, False),
    "false_alarms_per_day": ("daily", 0, 1e6, False),
    "live_reference_rows": ("live_rows", 100, 100_000, True),
    "live_reference_requests": ("live_requests", 1, 100_000, True),
    "live_reference_seconds": ("live_s", 0, 7 * 86_400, False),
    "live_reference_client_share": ("live_share", 0.01, 1.0, False),
    "explained_rows_per_second": ("explained_rate", 0, 50, False),
    "label_horizon_seconds": ("horizon_s", 0, 90 * 86_400, False),
}

_CAPTURE = {
    "sample": ("capture", 0.0, 1.0, False),
    "max_bytes": ("capture_bytes", 16 << 20, MOST_CAPTURE_BYTES, True),
}


OWNER_SINKS = "owner_sinks"
"""What a stored policy has beside its parts: the names of the sinks that the gateway's own user declared."""

NO_SINKS: Mapping[str, SinkSpec] = {}


def parse_policy(
    document: Document,
    parse_schedule: ScheduleParser,
    declared: Mapping[str, SinkSpec] = NO_SINKS,
    origins: Mapping[str, SinkOrigin] | SinkOrigin = SinkOrigin.POLICY,
) -> MonitorPolicy:
    """Parse a policy from an operator's document; defaults fill what is missing. ``parse_schedule`` parses schedules.
    ``declared`` are the sinks of the configuration, and ``origins`` says who declared the others.

    Raises:
        InvalidInput: with every fault of the document.
    """
    stated = document.get("sinks", {})
    known = [*declared, *(stated if isinstance(stated, dict) else ())]
    return _parse_policy(document, parse_schedule, declared, origins, known)


def decode_stored_policy(
    document: Document, parse_schedule: ScheduleParser, declared: Mapping[str, SinkSpec]
) -> MonitorPolicy:
    """Parse a stored policy; rules may name sinks that the configuration has no longer, and nothing is sent there.

    Raises:
        InvalidInput: with every fault of the document.
    """
    parts = {name: part for name, part in document.items() if name != OWNER_SINKS}
    origins = dict.fromkeys(document.get(OWNER_SINKS, ()), SinkOrigin.OWNER)
    return _parse_policy(parts, parse_schedule, declared, origins, None)


def encode_stored_policy(policy: MonitorPolicy) -> dict[str, Any]:
    """Return a policy as it is stored: with its secrets, and who declared its sinks."""
    owner = sorted(name for name, spec in policy.own_sinks.items() if spec.origin is SinkOrigin.OWNER)
    return {**describe_policy(policy), **({OWNER_SINKS: owner} if owner else {})}


def _parse_policy(
    document: Document,
    parse_schedule: ScheduleParser,
    declared: Mapping[str, SinkSpec],
    origins: Mapping[str, SinkOrigin] | SinkOrigin,
    known: Collection[str] | None,
) -> MonitorPolicy:
    faults = [
        f"'{name}' is not a field of a policy"
        for name in sorted(set(document) - {"monitor", "capture", *RULES, "reason"})
    ]
    values: dict[str, Any] = {}
    monitor = _parse_section(document, "monitor", {*_FIELDS, "slices"}, faults)
    _parse_numbers(monitor, "monitor", _FIELDS, values, faults)
    _parse_names(monitor, "monitor.slices", MOST_SLICES, values, "slices", faults)
    capture = _parse_section(document, "capture", {*_CAPTURE, "mask", "mask_patterns"}, faults)
    _parse_numbers(capture, "capture", _CAPTURE, values, faults)
    _parse_names(capture, "capture.mask", MOST_MASKED, values, "masked", faults)
    _parse_names(capture, "capture.mask_patterns", len(PATTERNS), values, "patterns", faults)
    if unknown := sorted(set(values.get("patterns", ())) - PATTERNS.keys()):
        faults.append(f"'capture.mask_patterns' has '{unknown[0]}'; expected some of {', '.join(PATTERNS)}")
    values["sinks"] = {**declared, **parse_sinks(document.get("sinks", {}), faults, origins)}
    values["triggers"] = parse_triggers(document.get("triggers", []), known, faults, parse_schedule)
    values["limits"] = parse_limits(document.get("retraining", {}), faults)
    values["gates"] = parse_version_gates(document.get("gates", {}), "gates", faults)
    for word, value in _parse_section(document, "slo", set(_SLO), faults).items():
        if word in _SLO and (type(value) not in (int, float) or not 0 < value <= _SLO[word]):
            faults.append(f"'slo.{word}' must be a number above 0, and {_SLO[word]:g} at most")
    if faults:
        raise InvalidInput("; ".join(faults))
    return MonitorPolicy(**values, rules={word: document[word] for word in RULES if document.get(word)})


def _parse_section(document: Document, name: str, keys: set[str], faults: list[str]) -> Document:
    stated = document.get(name, {})
    if not isinstance(stated, dict):
        faults.append(f"'{name}' must be an object")
        return {}
    faults += [f"'{name}.{word}' is not a setting" for word in sorted(set(stated) - keys)]
    return stated


def _parse_numbers(
    stated: Document,
    section: str,
    fields: Mapping[str, tuple[str, float, float, bool]],
    values: dict[str, Any],
    faults: list[str],
) -> None:
    for word, (name, least, most, whole) in fields.items():
        if word not in stated:
            continue
        if fault := number_fault(f"{section}.{word}", stated[word], least, most, whole=whole):
            faults.append(fault)
        else:
            values[name] = stated[word]


def _parse_names(stated: Document, path: str, most: int, values: dict[str, Any], name: str, faults: list[str]) -> None:
    names = stated.get(path.rpartition(".")[2], [])
    if not isinstance(names, list) or len(names) > most or not all(isinstance(item, str) and item for item in names):
        faults.append(f"'{path}' must be a list of at most {most} names")
    elif len(set(names)) < len(names):
        faults.append(f"'{path}' names something twice")
    else:
        values[name] = tuple(names)


@dataclass(frozen=True, slots=True)
class ReferenceColumns:
    """What the references of a model's versions have: the largest number of columns by scope of ``drift``, and the
    features by whose values rows can be watched apart."""

    counts: Mapping[str, int]
    slices: frozenset[str]


def refuse_unreachable(policy: MonitorPolicy, known: ReferenceColumns | None = None) -> None:
    """Refuse a policy with rules that can never fire, or with slices that no reference has; raises ``InvalidInput``
    with every reason.

    ``known`` is None while a version has no reference. Not for policies that are stored already: what was taken once
    holds.
    """
    slices, objectives = bool(policy.slices), policy.objectives
    watched = MonitoringCoverage(
        policy.sample > 0, policy.horizon_s > 0, slices, objectives, policy.limits, known.counts if known else {}
    )
    if faults := [*find_unreachable(policy.triggers, watched), *_unknown_slices(policy, known)]:
        raise InvalidInput("; ".join(faults))


def _unknown_slices(policy: MonitorPolicy, known: ReferenceColumns | None) -> Iterator[str]:
    if known is None:
        return
    expected = ", ".join(shorten(name) for name in sorted(known.slices)[:MOST_SLICES])
    for name in policy.slices:
        if name not in known.slices:
            yield (
                f"'monitor.slices' has '{shorten(name)}', by which no reference of the model counts rows apart; "
                + (f"expected some of {expected}" if expected else "its references have no column of few values")
            )


def describe_policy(policy: MonitorPolicy) -> dict[str, Any]:
    """Return a policy as operators see it."""
    monitor = {word: getattr(policy, name) for word, (name, *_) in _FIELDS.items()}
    capture = {word: getattr(policy, name) for word, (name, *_) in _CAPTURE.items()}
    return {
        "monitor": {**monitor, "slices": list(policy.slices)},
        "capture": {**capture, "mask": list(policy.masked), "mask_patterns": list(policy.patterns)},
        **policy.rules,
    }
