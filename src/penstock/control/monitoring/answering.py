"""Computes the share of a model's requests that each version answers."""

from collections.abc import Iterable

from penstock.core.desired import ModelSpec, VersionStatus, able_versions
from penstock.core.routing import POINTS, default_version, resolve_split
from penstock.core.versions import CHAMPION


def answering_shares(model: ModelSpec, statuses: Iterable[VersionStatus]) -> dict[str, float]:
    """Return the share (0 to 1) of each version in the requests that name none, the greatest first; rules of the route
    and pinned requests do not count."""
    champion = model.aliases.get(CHAMPION)
    able = able_versions(model.unnamed(statuses), model.route, champion)
    if model.route is not None:
        points = resolve_split(model.route, champion, able)
        shares = {version: weight / POINTS for version, weight in points.items() if weight}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))
    version = default_version(champion, able)
    return {} if version is None else {version: 1.0}
