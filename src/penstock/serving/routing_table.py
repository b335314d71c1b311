"""The immutable table of a worker's versions and routes; a request reads it once, a change replaces it whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from penstock.core.desired import ModelSpec, ReadyState, VersionStatus
from penstock.core.errors import Fault, InvalidInput, NotFound, NotReady, unknown_model
from penstock.core.labels import MARKED, Route
from penstock.core.routing import RouteSpec, SplitTable, choose_substitute, default_version
from penstock.core.texts import shorten
from penstock.core.versions import CHAMPION, sort_key
from penstock.monitor.unit_votes import CLOSED, PLACES, TAGS, UnitVotes
from penstock.serving.infer_call import CallObserver
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.observers.output_bins import OutputBinCounter
from penstock.serving.observers.shadow import LoadOf, ShadowSampler
from penstock.serving.observers.unit_vote import UnitVote

RouteDecision = tuple[LoadedVersion, Route, tuple[CallObserver, ...]]
"""The version that answers, the reason, and the observers of its answers."""

Target = tuple[str, str]
"""A model and a version, an alias or ""."""

Fields = Mapping[bytes, bytes]
"""Headers or metadata by lower-case name."""

SOURCE: Final = b"penstock-source"
"""The header and metadata key by which a request says that it is not live traffic."""


@dataclass(frozen=True, slots=True)
class LoopLoad:
    """How busy the event loop is, 0 to 1; shadows run less while it is busy."""

    load: LoadOf = lambda: 0.0


class Router:
    """One model's route over what this worker has ready: requests without a version ask it.

    ``votes`` are those of the units of a sticky split, taken in ``vote_round`` ("" = none is open).
    """

    __slots__ = ("_points", "_rules", "_sticky", "_votes", "default", "reads", "tag")

    def __init__(
        self,
        model: str,
        route: RouteSpec,
        loaded: Mapping[str, LoadedVersion],
        stable: LoadedVersion,
        loop: LoopLoad,
        votes: UnitVotes | None = None,
        vote_round: str = "",
    ) -> None:
        shadows = [
            (loaded[item.version], item.percent / 100)
            for item in route.shadow
            if item.percent and item.version in loaded
        ]

        def decision(target: LoadedVersion, reason: Route) -> RouteDecision:
            mirrors = [
                ShadowSampler(shadow.as_shadow(loop.load), share, target.sheds)
                for shadow, share in shadows
                if shadow is not target
            ]
            counters = (OutputBinCounter(target),) if route.watched else ()
            return target, reason, (*counters, *mirrors)

        self.default = decision(stable, Route.STABLE)
        canaries = {version: decision(item, Route.CANARY) for version, item in loaded.items() if item is not stable}
        self._points = SplitTable(
            model, route, {version: canaries.get(version, self.default) for version in route.split}
        )
        self._rules = tuple(
            (rule.header.encode(), rule.equals.encode(), decision(loaded[rule.version], Route.RULE))
            for rule in route.rules
            if rule.version in loaded
        )
        self._sticky = route.sticky.encode()
        self._votes = votes if self._sticky and sum(map(bool, route.split.values())) > 1 else None
        self.tag = tag_of(model, vote_round) if vote_round else CLOSED
        self.reads = bool(self._rules or self._sticky)

    def pick(self, fields: Fields) -> RouteDecision:
        """Decide for a request with these headers: the first matching rule, else the split."""
        for header, value, decision in self._rules:
            if fields.get(header) == value:
                return decision
        sticky = fields.get(self._sticky) if self._sticky else None
        if not sticky or self._votes is None:
            picked: RouteDecision = self._points.pick(sticky or None)  # an empty value identifies nobody
            return picked
        hashed = self._points.hash_value(sticky)
        loaded, reason, observers = self._points.at(hashed)
        return loaded, reason, (UnitVote(self._votes, self.tag, hashed % PLACES), *observers)


def tag_of(model: str, vote_round: str) -> int:
    """Return a number from 1 to 65 535 for a round of votes; two rounds rarely have the same number."""
    said = repr((model, vote_round)).encode()
    return 1 + int.from_bytes(blake2b(said, digest_size=8).digest(), "big") % (TAGS - 1)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model: ``routes`` maps every version and alias that a request may name, and "" for none, to its decision."""

    name: str
    ready: tuple[str, ...]
    routes: Mapping[str, RouteDecision]
    statuses: Mapping[str, VersionStatus]
    aliases: Mapping[str, str] = field(default_factory=dict)
    router: Router | None = None

    def refusal(self, asked: str) -> Fault:
        """Return the error of a request for this version or alias, which has no route."""
        version = self.aliases.get(asked, asked)
        if version and version not in self.statuses:
            return NotFound(f"model '{self.name}' has no version '{shorten(version)}'")
        if version:
            status = self.statuses[version]
            because = status.reason or status.state.lower()
            return NotReady(f"model '{self.name}' version '{version}' is not ready: {because}")
        if self.ready:
            return NotReady(f"model '{self.name}' is not ready: no version has passed its gates")
        reasons = sorted({status.reason or status.state.lower() for status in self.statuses.values()})
        return NotReady(f"model '{self.name}' is not ready: {'; '.join(reasons) or 'no version is served'}")


def mark_decision(decision: RouteDecision, source: bytes) -> RouteDecision:
    """Return the decision for a request that says it is not live traffic (see ``MARKED``): the same version, without
    observers.

    Raises:
        InvalidInput: the mark is unknown.
    """
    route = MARKED.get(source)
    if route is None:
        raise InvalidInput(f"{SOURCE.decode()} must be batch or replay; leave it out for live traffic")
    return decision[0], route, ()


class RoutingTable:
    """Every known model; ``routes`` holds the routes of all models, so that a request looks in one dictionary."""

    __slots__ = ("models", "routers", "routes")

    def __init__(self, models: Mapping[str, ModelEntry] = MappingProxyType({})) -> None:
        self.models = models
        self.routes: dict[Target, RouteDecision] = {
            (name, version): decision for name, entry in models.items() for version, decision in entry.routes.items()
        }
        self.routers: dict[Target, Router] = {
            (name, ""): entry.router for name, entry in models.items() if entry.router is not None
        }

    def entry(self, model: str) -> ModelEntry:
        """Return the entry of a model.

        Raises:
            NotFound: no such model.
        """
        entry = self.models.get(model)
        if entry is None:
            raise unknown_model(model)
        return entry

    def find(self, target: Target) -> RouteDecision:
        """Return the decision for this model and version; "" is the stable version of the route, or the default.

        Raises:
            NotFound: no such model or version.
            NotReady: known, but not able to answer.
        """
        decision = self.routes.get(target)
        if decision is None:
            model, version = target
            raise self.entry(model).refusal(version)
        return decision


def build_model_entry(
    spec: ModelSpec,
    loaded: Mapping[str, LoadedVersion],
    statuses: Mapping[str, VersionStatus],
    loop: LoopLoad = LoopLoad(),
    votes: UnitVotes | None = None,
) -> ModelEntry:
    """Build one model's routes: by version, by alias, and the default (the route's, the champion, the newest ready)."""
    ready = tuple(sorted(loaded, key=sort_key))
    routes: dict[str, RouteDecision] = {version: (loaded[version], Route.PINNED, ()) for version in ready}
    for alias, version in spec.aliases.items():
        if version in loaded:
            routes[alias] = routes[version]
    router = None
    default = default_version(spec.aliases.get(CHAMPION), [item for item in ready if item not in spec.withheld])
    stable = default if spec.route is None else choose_substitute(spec.route, loaded) or default
    if stable is not None:
        routes[""] = loaded[stable], Route.STABLE, ()
        if spec.route is not None:
            router = Router(spec.name, spec.route, loaded, loaded[stable], loop, votes, spec.vote_round)
            routes[""] = router.default
    unavailable = {
        version: VersionStatus(spec.name, version, ReadyState.UNAVAILABLE, reason)
        for version, reason in spec.unavailable.items()
    }
    return ModelEntry(spec.name, ready, routes, {**unavailable, **statuses}, spec.aliases, router)
