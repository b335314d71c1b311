"""Says in sentences what a route would do: who answers which requests, and how many callers change their version."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from penstock.core.routing import (
    POINTS,
    Range,
    RouteSpec,
    choose_substitute,
    default_version,
    moved_points,
    resolve_split,
)


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """A route that somebody may set: ``before`` is the present one (None without one), ``answers`` the version that
    answers now without a route, ``able`` the versions that can answer. ``trial`` names what decides the traffic until
    it is over, such as "rollout 1a2b" ("" = nothing)."""

    route: RouteSpec
    before: RouteSpec | None
    answers: str | None
    able: Collection[str]
    champion: str | None = None
    trial: str = ""

    @property
    def points(self) -> dict[str, int]:
        """The points of each version that answers then."""
        return {
            version: weight for version, weight in resolve_split(self.route, self.champion, self.able).items() if weight
        }

    @property
    def moved(self) -> int:
        """How many of the 10,000 points of callers change their version."""
        return moved_points(self._ranges_now(), self.route.ranges)

    def _ranges_now(self) -> tuple[Range, ...]:
        if self.before is not None:
            return self.before.ranges
        return ((POINTS, self.answers),) if self.answers is not None else ()

    @property
    def has_effect(self) -> bool:
        """Whether a request would be routed or mirrored otherwise; the first route always keeps later versions out."""
        if self.before is None:
            return True
        parts = ((item.sticky, item.rules, item.shadow, item.stable) for item in (self.before, self.route))
        return self.moved > 0 or len(set(parts)) > 1


def preview_document(plan: RoutePlan) -> dict[str, Any]:
    """Return a plan for the admin API."""
    return {
        "sentences": list(_make_sentences(plan)),
        "points": plan.points,
        "moved_points": plan.moved,
        "changes": plan.has_effect,
    }


def _make_sentences(plan: RoutePlan) -> Iterator[str]:
    if plan.trial:
        yield f"{plan.trial} decides the traffic; this route is refused until it is over"
    yield _split_text(plan)
    yield from _absent_texts(plan)
    yield from _rule_texts(plan)
    yield from _sticky_texts(plan.route)
    for item in plan.route.shadow:
        yield f"version {item.version} also answers a copy of {item.percent:g} % of the requests, unseen by callers"
    yield from _alias_texts(plan)
    if not plan.has_effect:
        yield "this changes nothing"


def _split_text(plan: RoutePlan) -> str:
    if not plan.points:
        return "no version can answer"
    shares = [f"version {version} answers {weight / 100:g} %" for version, weight in plan.points.items()]
    return f"{', '.join(shares)} of the requests"


def _absent_texts(plan: RoutePlan) -> Iterator[str]:
    lost = [version for version, weight in plan.route.split.items() if weight and version not in plan.able]
    if lost and (instead := _describe_fallback(plan)) is not None:
        yield f"version {', '.join(lost)} cannot answer; version {instead} does in its place"


def _describe_fallback(plan: RoutePlan) -> str | None:
    return choose_substitute(plan.route, plan.able) or default_version(plan.champion, plan.able)


def _rule_texts(plan: RoutePlan) -> Iterator[str]:
    for number, rule in enumerate(plan.route.rules):
        first = "first of all, " if not number else "then, "
        fallback = "" if rule.version in plan.able else f", which cannot; version {_describe_fallback(plan)} does"
        yield f"{first}requests with header {rule.header} = '{rule.equals}' go to version {rule.version}{fallback}"


def _sticky_texts(route: RouteSpec) -> Iterator[str]:
    if not route.sticky:
        return
    if max(route.split.values()) == POINTS:
        yield f"header {route.sticky} has no effect while one version has all the points"
        return
    yield f"requests with the same value of header {route.sticky} keep their version; without it each is drawn"


def _alias_texts(plan: RoutePlan) -> Iterator[str]:
    if plan.champion is not None and plan.champion not in plan.points:
        yield f"alias 'champion' (version {plan.champion}) has no effect meanwhile"
