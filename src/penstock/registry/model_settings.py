"""A model's settings as JSON values of the admin API: version policy, transition, time to keep versions warm."""

from collections.abc import Mapping
from typing import Any, Literal

from penstock.core.errors import InvalidInput
from penstock.core.stated_numbers import number_fault
from penstock.core.versions import VersionPolicy, is_version
from penstock.registry.records import Document, ModelSettings

LONGEST_WARM_S = 7 * 86_400
MOST_VERSIONS = 1000
_POLICY_FORM = "versions: expected all, latest:N or specific:V,V"


def encode_settings(settings: ModelSettings) -> Document:
    """Return settings as JSON values."""
    return {
        "versions": policy_text(settings.versions),
        "transition": settings.transition,
        "keep_warm_seconds": settings.keep_warm_s,
    }


def decode_settings(values: Mapping[str, Any]) -> ModelSettings:
    """Return settings from their JSON values.

    Raises:
        InvalidInput: a value is not valid; the message lists all faults.
    """
    faults = [f"{name} is not a setting" for name in sorted(values.keys() - encode_settings(ModelSettings()).keys())]
    policy, transition, warm = VersionPolicy(), _transition(values.get("transition", "availability")), 0.0
    try:
        policy = policy_of(values.get("versions", "all"))
    except InvalidInput as fault:
        faults.append(str(fault))
    if transition is None:
        faults.append("transition: expected availability or resources")
    stated = values.get("keep_warm_seconds", ModelSettings().keep_warm_s)
    if problem := number_fault("keep_warm_seconds", stated, 0, LONGEST_WARM_S):
        faults.append(problem)
    else:
        warm = float(stated)
    if faults:
        raise InvalidInput("; ".join(faults))
    return ModelSettings(policy, transition or "availability", warm)


def _transition(value: object) -> Literal["availability", "resources"] | None:
    if value == "availability":
        return "availability"
    return "resources" if value == "resources" else None


def policy_text(policy: VersionPolicy) -> str:
    """Return a version policy as text: ``all``, ``latest:2``, ``specific:1,3``."""
    if policy.kind == "latest":
        return f"latest:{policy.latest}"
    return f"specific:{','.join(policy.specific)}" if policy.kind == "specific" else "all"


def policy_of(text: object) -> VersionPolicy:
    """Return the version policy of a text.

    Raises:
        InvalidInput: the text is not a version policy.
    """
    kind, _, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if kind == "all" and not rest:
        return VersionPolicy()
    if kind == "latest" and rest.isascii() and rest.isdecimal() and 1 <= int(rest[:9]) <= MOST_VERSIONS:
        return VersionPolicy("latest", int(rest))
    versions = tuple(part.strip() for part in rest.split(","))
    if kind == "specific" and all(map(is_version, versions)) and len(versions) <= MOST_VERSIONS:
        return VersionPolicy("specific", specific=versions)
    raise InvalidInput(_POLICY_FORM)
