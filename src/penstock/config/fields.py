"""Declares settings: sections of typed fields, with the bounds and checks of a field beside its type.

A gateway starts by reading its settings, so this does only what they need: no code is generated, and the sentences
below the fields are read where the schema is asked for (``schema``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, dataclass_transform, get_type_hints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """Bounds of a field: of a number, or of the form and length of a text, a list or a mapping."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepare:
    """Changes a value before it is read; ``change`` raises ``ValueError`` with a sentence."""

    change: Callable[[Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """Checks a value that has its type; ``check`` raises ``ValueError`` with a sentence."""

    check: Callable[[Any], None]


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """The sentence for whatever is wrong with the value of a field."""

    sentence: str


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Section:
    """A section of settings: a class with annotated fields, a default for each that is not required, and a sentence
    below each. Objects cannot be changed; ``given`` has the names of the fields that are not left at their defaults.

    Raises:
        TypeError: a field is unknown, or a required one is missing.
        ValueError: see ``check``.
    """

    kinds: ClassVar[Mapping[str, Any]] = {}
    """The type of each field, with what is annotated to it."""

    def __init_subclass__(cls) -> None:
        """Find the fields."""
        own = {name: kind for name, kind in cls.__annotations__.items() if not name.startswith("_")}
        if any(isinstance(kind, str) for kind in own.values()):
            own = get_type_hints(cls, include_extras=True)
        cls.kinds = {**cls.kinds, **own}

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self.kinds.keys():
            raise TypeError(f"{type(self).__name__} has no fields {sorted(unknown)}")
        if missing := [name for name in self.kinds if name not in values and self.is_required(name)]:
            raise TypeError(f"{type(self).__name__} needs {missing}")
        self.__dict__.update(values)
        self.check()

    @classmethod
    def is_required(cls, name: str) -> bool:
        """Whether a field has no default."""
        return not hasattr(cls, name)

    @property
    def given(self) -> frozenset[str]:
        """The names of the fields that were stated."""
        return frozenset(self.__dict__) & self.kinds.keys()

    def values(self) -> dict[str, Any]:
        """Return the value of each field."""
        return {name: getattr(self, name) for name in self.kinds}

    def check(self) -> None:
        """Check the fields together; raises ``ValueError`` with a sentence."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings cannot be changed: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"settings cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Section) and type(other) is type(self) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), *self.values().items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.values().items())})"


def plain_value(value: Any) -> Any:
    """Return a value of a setting as JSON has it."""
    if isinstance(value, Section):
        return {name: plain_value(item) for name, item in value.values().items()}
    if isinstance(value, Mapping):
        return {name: plain_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value
