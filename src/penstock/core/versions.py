"""Version and alias names: what they may look like, how versions are ordered, which of them a policy serves."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

_VERSION = re.compile(r"[0-9][0-9A-Za-z._+-]{0,63}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z][0-9A-Za-z._+-]{0,63}", re.ASCII)
_MODEL = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,127}", re.ASCII)
_PARTS = re.compile(r"[0-9]+|[A-Za-z]+")

CHAMPION = "champion"
"""The alias whose version answers requests that name no version, where there is no route."""

VersionKey = tuple[str, str]
"""A model's name and the name of one of its versions."""

SortKey = tuple[tuple[tuple[int, int, str], ...], bool, tuple[tuple[int, int, str], ...], str]


def is_version(text: str) -> bool:
    """True for a version name: a digit first, then letters, digits and ``._+-``, at most 64."""
    return _VERSION.fullmatch(text) is not None


def looks_alike(one: str, other: str) -> bool:
    """Whether two version names are easily taken for each other: ``1``, ``01`` and ``1.`` are."""
    return _strip_zeros(one) == _strip_zeros(other)


def _strip_zeros(version: str) -> str:
    """A version name without leading zeros and what stands at its end without meaning."""
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", version).rstrip("._+-").lower()


def is_alias(text: str) -> bool:
    """True for an alias: like a version, but a letter first."""
    return _ALIAS.fullmatch(text) is not None


def is_model_name(text: str) -> bool:
    """True for a model name: letters, digits and ``._-``, not beginning with a dot or dash, at most 128."""
    return _MODEL.fullmatch(text) is not None


def sort_key(version: str) -> SortKey:
    """Key for ascending order: numeric first, then semantic versioning (precedence of semver.org 2.0.0 §11).

    ``2 < 10``, ``1.4.0-rc.1 < 1.4.0``, dates in ISO form order as dates; build metadata after ``+``
    decides only between otherwise equal versions.
    """
    release, _, _build = version.partition("+")
    dated = re.fullmatch(r"[0-9]+(-[0-9]+)+", release)
    core, _, pre = (release, "", "") if dated else release.partition("-")
    return _split_fields(core), not pre, _split_fields(pre), version


def _split_fields(text: str) -> tuple[tuple[int, int, str], ...]:
    parts: list[tuple[int, int, str]] = [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in _PARTS.findall(text)
    ]
    while len(parts) > 1 and parts[-1] == (0, 0, ""):
        parts.pop()  # 1.4 and 1.4.0 are the same release
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of a model's versions are served: all of them, the newest ``latest``, or exactly ``specific``."""

    kind: Literal["all", "latest", "specific"] = "all"
    latest: int = 1
    specific: tuple[str, ...] = field(default=())

    def choose(self, available: Iterable[str]) -> tuple[str, ...]:
        """The versions to serve, oldest first."""
        ordered = sorted(available, key=sort_key)
        if self.kind == "latest":
            return tuple(ordered[-self.latest :])
        if self.kind == "specific":
            return tuple(version for version in ordered if version in self.specific)
        return tuple(ordered)
