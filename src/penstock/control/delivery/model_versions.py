"""Finds the versions of a model that answer requests, from the statuses of all versions."""

from collections.abc import Iterable, Mapping

from penstock.core.desired import ReadyState, VersionStatus, serving_version
from penstock.core.errors import NotFound, Refused
from penstock.core.version_gates import withheld_by_default
from penstock.core.versions import CHAMPION
from penstock.registry.records import ModelRecord


def of_model(statuses: Iterable[VersionStatus], model: str) -> dict[str, VersionStatus]:
    """Return a model's versions."""
    return {status.version: status for status in statuses if status.model == model and status.version}


def find_serving_version(record: ModelRecord, statuses: Mapping[str, VersionStatus], but: str = "") -> str | None:
    """Return the version that should answer requests without a version; see ``serving_version``."""
    champion = record.aliases.get(CHAMPION)
    passing = [status for status in statuses.values() if status.version not in withheld_versions(record)]
    return serving_version(record.route, None if champion is None else champion.version, passing, but)


def withheld_versions(record: ModelRecord) -> set[str]:
    """Return the versions that answer only calls that name them; those with traffic keep it."""
    return withheld_by_default(record.withheld, record.route, (alias.version for alias in record.aliases.values()))


def refuse_unready(model: str, statuses: Mapping[str, VersionStatus], version: str) -> None:
    """Refuse a version that does not answer.

    Raises:
        NotFound: the version is not known.
        Refused: it is not ready.
    """
    if version not in statuses:
        raise NotFound(f"model '{model}' serves no version '{version}'")
    status = statuses[version]
    if status.state is not ReadyState.READY:
        because = status.reason or status.state.lower()
        raise Refused(f"version '{version}' of model '{model}' is not ready: {because}")
