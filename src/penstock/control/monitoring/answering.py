"""Which versions answer a model's requests, and with what share of them."""

from collections.abc import Collection, Iterable

from penstock.control.readings import effective
from penstock.core.desired import ModelSpec, State, VersionStatus
from penstock.core.routing import POINTS
from penstock.core.versions import CHAMPION, sort_key


def answering_shares(model: ModelSpec, statuses: Iterable[VersionStatus]) -> dict[str, float]:
    """The share (0 to 1) of requests without a version that each version answers, the greatest first; rules of the
    route and pinned requests do not count."""
    ready = {one.version for one in statuses if one.model == model.name and one.state is State.READY}
    if model.route is not None:
        shares = {version: points / POINTS for version, points in effective(model.route, ready) if points}
        return dict(sorted(shares.items(), key=lambda one: -one[1]))
    version = _without_route(model, ready)
    return {} if version is None else {version: 1.0}


def _without_route(model: ModelSpec, ready: Collection[str]) -> str | None:
    champion = model.aliases.get(CHAMPION)
    return champion if champion in ready else max(ready, key=sort_key, default=None)
