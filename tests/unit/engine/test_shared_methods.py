"""Dataclasses with shared methods print and refuse as those of ``dataclasses`` do."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import pytest

from penstock.engine.shared_methods import share_methods

NAMES = "_repr_fn", "_frozen_get_del_attr"


def make_classes() -> list[type[Any]]:
    """Classes of several kinds, each with a first field that may be a number or another object."""

    @dataclasses.dataclass(frozen=True, slots=True)
    class Slotted:
        value: Any
        hidden: int = dataclasses.field(default=2, repr=False)

    @dataclasses.dataclass(frozen=True)
    class Plain:
        value: Any
        text: str = "it's"

    @dataclasses.dataclass(frozen=True)
    class Heir(Plain):
        more: tuple[int, ...] = (1,)

    class Child(Plain):
        """Not a dataclass itself: it may have attributes of its own."""

    @dataclasses.dataclass
    class Open:
        value: Any

    @dataclasses.dataclass(repr=False, frozen=True)
    class Silent:
        value: Any

    return [Slotted, Plain, Heir, Child, Open, Silent]


def make_shared() -> list[type[Any]]:
    with share_methods():
        return make_classes()


def describe(action: Callable[[], object]) -> str:
    """What an action returns or raises."""
    try:
        return f"returned {action()!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def change(item: Any) -> list[str]:
    """What it answers to changes of its field, of one that it does not have, and to their removal."""
    changes: list[Callable[[], object]] = [
        lambda: setattr(item, "value", 3),
        lambda: setattr(item, "unknown", 3),
        lambda: delattr(item, "value"),
        lambda: delattr(item, "unknown"),
    ]
    return [describe(item) for item in changes]


PAIRS = list(zip(make_shared(), make_classes(), strict=True))


@pytest.mark.parametrize(("shared", "own"), PAIRS, ids=lambda item: item.__name__)
def test_methods_do_what_those_of_dataclasses_do(shared: type[Any], own: type[Any]) -> None:
    if own.__name__ != "Silent":
        assert repr(shared(1.5)) == repr(own(1.5))
        assert repr(shared(shared(None))) == repr(own(own(None)))
    assert change(shared(1)) == change(own(1))
    assert shared(1) == shared(1) != shared(2)
    for name in ("__repr__", "__setattr__", "__delattr__"):
        assert getattr(shared, name).__qualname__ == getattr(own, name).__qualname__


def test_an_object_in_itself_is_printed_once() -> None:
    _, plain, *_ = make_shared()
    values: list[Any] = []
    item = plain(values)
    values.append(item)
    assert repr(item).endswith('Plain(value=[...], text="it\'s")')


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="later dataclasses make their methods in another way")
def test_outside_of_the_block_dataclasses_are_as_ever() -> None:
    before = [vars(dataclasses)[name] for name in NAMES]
    with share_methods():
        assert [vars(dataclasses)[name] for name in NAMES] != before
    assert [vars(dataclasses)[name] for name in NAMES] == before
    with pytest.raises(ValueError, match="within"), share_methods():
        raise ValueError("within")
    assert [vars(dataclasses)[name] for name in NAMES] == before
