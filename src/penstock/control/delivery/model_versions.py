"""Finds the versions of a model that answer requests, from the statuses of all versions."""

from collections.abc import Iterable, Mapping

from penstock.core.desired import ReadyState, VersionStatus, serving_version
from penstock.core.errors import NotFound, Refused
from penstock.core.versions import CHAMPION
from penstock.registry.records import ModelRecord


def of_model(statuses: Iterable[VersionStatus], model: str) -> dict[str, VersionStatus]:
    """Return a model's versions."""
    return {status.version: status for status in statuses if status.model == model and status.version}


def serving(record: ModelRecord, statuses: Mapping[str, VersionStatus], but: str = "") -> str | None:
    """Return the version that should answer requests without a version; see ``serving_version``."""
    champion = record.aliases.get(CHAMPION)
    return serving_version(record.route, None if champion is None else champion.version, statuses.values(), but)


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
