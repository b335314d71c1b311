"""Gives dataclasses the methods that need no code of their own: ``repr`` and the refusals of frozen classes.

``dataclasses`` writes them as source text for each class: half of the texts of a start, and of their bytecode. Here all
classes share one code, and keep the names of their fields beside it; a test compares what the methods do. To begin, to
compare and to hash stay methods of each class, which are faster.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import Field, FrozenInstanceError
from typing import Any, Final

_KNOWN: Final = sys.version_info < (3, 13)
"""Whether ``dataclasses`` asks for these methods as it does here; later ones compile all texts of a class at once."""

Method = Callable[..., Any]


@contextmanager
def share_methods() -> Iterator[None]:
    """Within the block, dataclasses are made with shared methods, where this Python's ``dataclasses`` are known."""
    own = vars(dataclasses)
    before = {name: own[name] for name in _MAKERS} if _KNOWN else {}
    own.update({name: _MAKERS[name] for name in before})
    try:
        yield
    finally:
        own.update(before)


def _make_repr(fields: Sequence[Field[Any]], _globals: Mapping[str, Any]) -> Method:
    names = tuple(field.name for field in fields)

    def __repr__(self: object) -> str:  # noqa: N807 - the name of the method
        values = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{self.__class__.__qualname__}({values})"

    shared: Method = vars(dataclasses)["_recursive_repr"](__repr__)
    return shared


def _make_refusals(cls: Any, fields: Sequence[Field[Any]], _globals: Mapping[str, Any]) -> tuple[Method, Method]:
    names = tuple(field.name for field in fields)

    def __setattr__(self: object, name: str, value: object) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: object, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __setattr__, __delattr__


_MAKERS: Final[Mapping[str, Callable[..., Any]]] = {"_repr_fn": _make_repr, "_frozen_get_del_attr": _make_refusals}
"""The functions of ``dataclasses`` that make these methods, by name, and ours."""
