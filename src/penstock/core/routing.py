"""Routes as operators state them, and the choice of the version for a request; pure values and functions.

A route divides the points 0 to 9 999 among versions. A request's point is a keyed hash of its sticky header, or drawn
anew where there is none; a changed split hands over only the points it has to, so nobody else moves.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from random import random
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.stated_numbers import number_fault
from penstock.core.texts import is_readable
from penstock.core.versions import is_version, sort_key

POINTS = 10_000
"""The sum of all weights, which are integers."""

MOST_VERSIONS = 32
MOST_RULES = 32
MOST_VALUE = 256

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_PREFIX = "header:"

Document = Mapping[str, Any]
Range = tuple[int, str]
"""The end of a version's points (exclusive), and the version."""

_Run = tuple[int, str]
"""The length of a run of points, and its version; "" for none."""


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """Requests whose ``header`` equals ``equals`` go to ``version``, before the split."""

    header: str
    equals: str
    version: str


@dataclass(frozen=True, slots=True)
class ShadowSpec:
    """A version that answers a copy of ``percent`` of the requests, unseen by their callers."""

    version: str
    percent: float


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One model's traffic: ``split`` weighs the versions; ``sticky`` names the header that decides ("" = none).

    ``stable`` answers for versions that cannot. ``ranges`` are the split's points in order, which outlive a change of
    weights; ``salt`` makes the hash this model's and experiment's own. ``watched`` asks for the outputs to be counted.
    """

    split: Mapping[str, int]
    sticky: str = ""
    rules: tuple[RoutingRule, ...] = ()
    shadow: tuple[ShadowSpec, ...] = ()
    stable: str = ""
    ranges: tuple[Range, ...] = ()
    salt: str = ""
    watched: bool = False

    def receivers(self) -> set[str]:
        """Return every version that gets requests by this route, including mirrored ones."""
        weighted = {version for version, weight in self.split.items() if weight}
        return weighted | {rule.version for rule in self.rules} | {item.version for item in self.shadow}


# From and to JSON.


def parse_route(document: Document, before: RouteSpec | None = None, champion: str | None = None) -> RouteSpec:
    """Parse a route from an operator's document; ``before`` keeps its points where the weights allow.

    Raises:
        InvalidInput: with every fault of the document.
    """
    faults: list[str] = []
    split = _parse_split(document.get("split"), faults)
    sticky = _parse_header(document.get("sticky") or "", "sticky", faults) if document.get("sticky") else ""
    rules = _parse_rules(document.get("rules"), faults)
    shadow = _parse_shadows(document.get("shadow"), faults)
    keys = {"split", "sticky", "rules", "shadow", "reason", "stable", "revision", "set", "answers", "trial"}
    faults += [f"'{name}' is not a field of a route" for name in sorted(set(document) - keys)]
    stable = document.get("stable")
    if stable is not None and stable not in split:
        faults.append("'stable' must be a version of the split")
    if faults:
        raise InvalidInput("; ".join(faults))
    salt = before.salt if before is not None else ""
    ranges = lay_out(split, before.ranges if before is not None else ())
    return RouteSpec(split, sticky, rules, shadow, stable or stable_of(split, champion), ranges, salt)


def describe_route(route: RouteSpec) -> dict[str, Any]:
    """Return a route as operators see it."""
    return {
        "split": dict(route.split),
        "sticky": f"{_PREFIX}{route.sticky}" if route.sticky else None,
        "rules": [{"header": rule.header, "equals": rule.equals, "version": rule.version} for rule in route.rules],
        "shadow": [{"version": item.version, "percent": item.percent} for item in route.shadow],
        "stable": route.stable,
    }


def encode_stored_route(route: RouteSpec) -> dict[str, Any]:
    """Encode a route for the store."""
    stored = {"salt": route.salt, "watched": route.watched}
    return {**describe_route(route), "ranges": [list(item) for item in route.ranges], **stored}


def identify_rules(route: RouteSpec) -> str:
    """Return what identifies the rules of a route, on every gateway: 16 hexadecimal digits."""
    rules = {name: value for name, value in encode_stored_route(route).items() if name != "watched"}
    return blake2b(json.dumps(rules, sort_keys=True).encode(), digest_size=8).hexdigest()


def decode_stored_route(values: Document) -> RouteSpec:
    """Decode a route from the store."""
    return RouteSpec(
        dict(values["split"]),
        (values["sticky"] or "").removeprefix(_PREFIX),
        tuple(RoutingRule(**rule) for rule in values["rules"]),
        tuple(ShadowSpec(**item) for item in values["shadow"]),
        values["stable"],
        tuple((end, version) for end, version in values["ranges"]),
        values["salt"],
        values["watched"],
    )


def _parse_split(stated: Any, faults: list[str]) -> dict[str, int]:
    if not isinstance(stated, dict) or not stated:
        faults.append('\'split\' must give versions their weights, such as {"1": 9500, "2": 500}')
        return {}
    if len(stated) > MOST_VERSIONS:
        faults.append(f"'split' may name at most {MOST_VERSIONS} versions")
    whole = [weight for weight in stated.values() if type(weight) is int and 0 <= weight <= POINTS]
    if bad := [name for name in stated if not is_version(str(name))]:
        faults.append(f"'split': '{str(bad[0])[:64]}' is not a version")
    if len(whole) < len(stated):
        faults.append(f"'split': weights are whole numbers from 0 to {POINTS}")
    elif sum(whole) != POINTS:
        faults.append(f"'split': the weights must sum to {POINTS}, not {sum(whole)}")
    return dict(stated)


def _parse_header(stated: Any, where: str, faults: list[str], prefix: str = _PREFIX) -> str:
    name = stated[len(prefix) :].lower() if isinstance(stated, str) and stated.startswith(prefix) else ""
    if not _HEADER.fullmatch(name):
        faults.append(f"'{where}' must be a header's name, such as {prefix}x-user-id")
    return name


def _parse_rules(stated: Any, faults: list[str]) -> tuple[RoutingRule, ...]:
    rules = []
    for item in _list(stated, "rules", MOST_RULES, faults):
        if not isinstance(item, dict) or set(item) != {"header", "equals", "version"}:
            faults.append("'rules': each must have 'header', 'equals' and 'version'")
            continue
        header = _parse_header(item["header"], "rules", faults, prefix="")
        equals, version = item["equals"], item["version"]
        if not isinstance(equals, str) or len(equals) > MOST_VALUE or not is_readable(equals):
            faults.append(f"'rules': 'equals' must be a text of at most {MOST_VALUE} characters")
        if not isinstance(version, str) or not is_version(version):
            faults.append("'rules': 'version' must be a version")
        rules.append(RoutingRule(header, equals, version))
    return tuple(rules)


def _parse_shadows(stated: Any, faults: list[str]) -> tuple[ShadowSpec, ...]:
    shadows = []
    for item in _list(stated, "shadow", MOST_VERSIONS, faults):
        if not isinstance(item, dict) or not {"version"} <= set(item) <= {"version", "percent"}:
            faults.append("'shadow': each must have 'version' and 'percent'")
            continue
        percent = item.get("percent", 100)
        if fault := number_fault("percent", percent, 0, 100):
            faults.append(f"'shadow': {fault}")
        if not isinstance(item["version"], str) or not is_version(item["version"]):
            faults.append("'shadow': 'version' must be a version")
        shadows.append(ShadowSpec(item["version"], percent))
    if len({str(shadow.version) for shadow in shadows}) < len(shadows):
        faults.append("'shadow' must name each version once")
    return tuple(shadows)


def _list(stated: Any, where: str, most: int, faults: list[str]) -> list[Any]:
    if stated is None:
        return []
    if not isinstance(stated, list) or len(stated) > most:
        faults.append(f"'{where}' must be a list of at most {most}")
        return []
    return stated


# The split.


def stable_of(split: Mapping[str, int], champion: str | None) -> str:
    """Return the version that replaces versions that cannot answer: the champion if it is in the split, else the
    heaviest, else the oldest.
    """
    if champion is not None and champion in split:
        return champion
    return max(sorted(split, key=sort_key), key=lambda version: split[version], default="")


def default_version(champion: str | None, able: Collection[str]) -> str | None:
    """Return the version that answers without a route: the champion if it can, else the newest version that can."""
    return champion if champion in able else max(able, key=sort_key, default=None)


def choose_substitute(route: RouteSpec, able: Collection[str]) -> str | None:
    """Return the version that replaces versions that cannot answer: the stable one, else the heaviest; None if none of
    the split can.
    """
    if route.stable in able:
        return route.stable
    weighted = [version for version in sorted(route.split, key=sort_key) if version in able and route.split[version]]
    return max(weighted, key=lambda version: route.split[version], default=None)


def resolve_split(route: RouteSpec, champion: str | None, able: Collection[str]) -> dict[str, int]:
    """Return the points of every version of a route after those that cannot answer have given theirs to the
    replacement, or to the version that would answer without a route.
    """
    points = {version: weight if version in able else 0 for version, weight in route.split.items()}
    instead = choose_substitute(route, able) or default_version(champion, able)
    if instead is not None:
        points[instead] = points.get(instead, 0) + POINTS - sum(points.values())
    return points


def lay_out(split: Mapping[str, int], before: Iterable[Range] = ()) -> tuple[Range, ...]:
    """Return the points of each version: its earlier ones as far as its weight allows, and points that others give up.

    The move from one split to the next is minimal: exactly as many points change hands as weights do. A version that
    shrinks gives its last points up; a version that grows takes the first that are free.
    """
    lacking = {version: split[version] for version in sorted(split, key=sort_key)}
    runs: list[_Run] = []
    for length, version in _measure_runs(before):
        runs += _keep_points(length, version, lacking)
    filled: list[_Run] = []
    for length, version in runs:
        filled += [(length, version)] if version else _fill_points(length, lacking)
    return _join_runs(filled)


def _measure_runs(ranges: Iterable[Range]) -> Iterator[_Run]:
    """Return ranges as lengths, up to the last point."""
    begin = 0
    for end, version in ranges:
        yield end - begin, version
        begin = end
    if begin < POINTS:
        yield POINTS - begin, ""


def _keep_points(length: int, version: str, lacking: dict[str, int]) -> list[_Run]:
    """What a version keeps of a run of its points by what it still lacks, and the free points after that."""
    length_kept = min(length, lacking.get(version, 0))
    if length_kept:
        lacking[version] -= length_kept
    return [run for run in ((length_kept, version), (length - length_kept, "")) if run[0]]


def _fill_points(length: int, lacking: dict[str, int]) -> list[_Run]:
    """Assign free points to versions that lack some."""
    filled: list[_Run] = []
    for version, left in lacking.items():
        taken = min(length, left)
        lacking[version] -= taken
        length -= taken
        filled += [(taken, version)] if taken else []
    return filled


def _join_runs(runs: Iterable[_Run]) -> tuple[Range, ...]:
    """Return the ends of runs; adjacent runs of one version are joined."""
    ranges: list[Range] = []
    end = 0
    for length, version in runs:
        end += length
        if ranges and ranges[-1][1] == version:
            ranges.pop()
        ranges.append((end, version))
    return tuple(ranges)


def _list_owners(ranges: Iterable[Range]) -> list[str]:
    return [version for length, version in _measure_runs(ranges) for _ in range(length)]


def moved_points(before: Iterable[Range], after: Iterable[Range]) -> int:
    """Return how many points changed their version."""
    return sum(one != other for one, other in zip(_list_owners(before), _list_owners(after), strict=True))


# The pick.


class SplitTable:
    """The split as requests use it; ``targets`` maps a version to the one that answers for it."""

    __slots__ = ("_ends", "_last", "_salted", "_targets")

    def __init__(self, model: str, route: RouteSpec, targets: Mapping[str, Any]) -> None:
        ranges = [(end, targets[version]) for end, version in route.ranges]
        joined = [item for item, after in zip(ranges, [*ranges[1:], (0, None)], strict=True) if item[1] is not after[1]]
        self._ends = [end for end, _ in joined[:-1]]
        self._targets = [answer for _, answer in joined]
        self._last = joined[-1][1]
        key = blake2b(f"{model}\0{route.salt}".encode(), digest_size=16).digest()
        self._salted = blake2b(digest_size=8, key=key)

    def pick(self, sticky: bytes | None) -> Any:
        """Return the version: always the same for the same sticky value, random for None."""
        if not self._ends:
            return self._last
        point = int(random() * POINTS) if sticky is None else self.point(sticky)
        return self._targets[bisect_right(self._ends, point)]

    def point(self, sticky: bytes) -> int:
        """Return the point of a sticky value: its scaled hash."""
        return self.hash_value(sticky) * POINTS >> 64

    def hash_value(self, sticky: bytes) -> int:
        """Return 64 bits of a sticky value, keyed by model and experiment (BLAKE2b, RFC 7693)."""
        hashed = self._salted.copy()  # cheaper than to begin with the key again
        hashed.update(sticky)
        return int.from_bytes(hashed.digest(), "big")

    def at(self, hashed: int) -> Any:
        """Return the version for a sticky value with this hash."""
        return self._targets[bisect_right(self._ends, hashed * POINTS >> 64)]
