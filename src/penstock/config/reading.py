"""Reads plain values, as of a file or of texts from the environment, into sections of settings, and reports every fault
at once."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from penstock.config.fields import Check, Expected, Field, Prepare, Section

S = TypeVar("S", bound=Section)

_SWITCHES: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class SettingFault:
    """What is wrong with the value of one setting; ``path`` has the names and indexes that lead to it."""

    path: tuple[str, ...]
    message: str
    value: Any = None
    is_unknown: bool = False


def read_section(
    section: type[S], document: Mapping[str, Any], faults: list[SettingFault], path: tuple[str, ...] = ()
) -> S | None:
    """Return the section with these values; None after adding to ``faults`` what is wrong with them."""
    before = len(faults)
    faults += [SettingFault((*path, str(name)), "", is_unknown=True) for name in document if name not in section.kinds]
    faults += [
        SettingFault((*path, name), "a value is required")
        for name in section.kinds
        if name not in document and section.is_required(name)
    ]
    values = {
        name: read_value(kind, document[name], (*path, name), faults)
        for name, kind in section.kinds.items()
        if name in document
    }
    if len(faults) > before:
        return None
    try:
        return section(**values)
    except ValueError as error:
        faults.append(SettingFault(path, str(error), document))
        return None


def read_value(kind: Any, value: Any, path: tuple[str, ...], faults: list[SettingFault]) -> Any:
    """Return a value in the form of a type; what it is after a fault has no meaning."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _read_annotated(kind, value, path, faults)
    if origin in (Union, UnionType):
        return _read_member(get_args(kind), value, path, faults)
    if isinstance(kind, type) and issubclass(kind, Section):
        return _read_nested(kind, value, path, faults)
    if origin is tuple:
        return _read_tuple(get_args(kind)[0], value, path, faults)
    if origin is Mapping:
        return _read_mapping(get_args(kind), value, path, faults)
    try:
        return _read_choice(get_args(kind), value) if origin is Literal else _SCALARS[kind](value)
    except ValueError as error:
        faults.append(SettingFault(path, str(error), value))


def _read_annotated(kind: Any, value: Any, path: tuple[str, ...], faults: list[SettingFault]) -> Any:
    inner, *notes = get_args(kind)
    found: list[SettingFault] = []
    result = None
    try:
        for note in notes:
            if isinstance(note, Prepare):
                value = note.change(value)
        result = read_value(inner, value, path, found)
        if not found:
            _check(result, notes)
    except ValueError as error:
        found.append(SettingFault(path, str(error), value))
    sentences = [note.sentence for note in notes if isinstance(note, Expected)]
    faults += [SettingFault(path, sentences[0], value)] if found and sentences else found
    return result


def _check(value: Any, notes: list[Any]) -> None:
    for note in notes:
        if isinstance(note, Field):
            _check_bounds(value, note)
        elif isinstance(note, Check):
            note.check(value)


def _check_bounds(value: Any, bounds: Field) -> None:
    """Raise ``ValueError`` if a value is outside its bounds."""
    if bounds.ge is not None and value < bounds.ge:
        raise ValueError(f"expected at least {bounds.ge}")
    if bounds.gt is not None and value <= bounds.gt:
        raise ValueError(f"expected more than {bounds.gt}")
    if bounds.le is not None and value > bounds.le:
        raise ValueError(f"expected at most {bounds.le}")
    if bounds.pattern is not None and not re.fullmatch(bounds.pattern, value):
        raise ValueError(f"expected a text of the form {bounds.pattern}")
    if bounds.min_length is not None and len(value) < bounds.min_length:
        raise ValueError(f"expected at least {bounds.min_length} {_find_unit(value)}")
    if bounds.max_length is not None and len(value) > bounds.max_length:
        raise ValueError(f"expected at most {bounds.max_length} {_find_unit(value)}")


def _find_unit(value: Any) -> str:
    return "characters" if isinstance(value, str) else "items"


def _read_member(members: tuple[Any, ...], value: Any, path: tuple[str, ...], faults: list[SettingFault]) -> Any:
    """Return a value in the form of the first type that takes it; the faults are those of the last one."""
    if value is None and NoneType in members:
        return None
    found: list[SettingFault] = []
    for member in members:
        if member is not NoneType:
            found = []
            result = read_value(member, value, path, found)
            if not found:
                return result
    faults += found
    return None


def _read_nested(kind: type[Section], value: Any, path: tuple[str, ...], faults: list[SettingFault]) -> Any:
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping):
        return read_section(kind, value, faults, path)
    faults.append(SettingFault(path, "expected a section of settings", value))
    return None


def _read_tuple(kind: Any, value: Any, path: tuple[str, ...], faults: list[SettingFault]) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(read_value(kind, item, (*path, str(index)), faults) for index, item in enumerate(value))
    faults.append(SettingFault(path, "expected a list", value))
    return None


def _read_mapping(kinds: tuple[Any, ...], value: Any, path: tuple[str, ...], faults: list[SettingFault]) -> Any:
    if not isinstance(value, Mapping):
        faults.append(SettingFault(path, "expected a mapping", value))
        return None
    key, item = kinds
    return {
        read_value(key, name, (*path, str(name)), faults): read_value(item, value[name], (*path, str(name)), faults)
        for name in value
    }


def _read_choice(choices: tuple[Any, ...], value: Any) -> Any:
    if isinstance(value, str) and value in choices:
        return value
    *first, last = choices
    raise ValueError(f"expected {', '.join(first)} or {last}" if first else f"expected {last}")


def _read_switch(value: Any) -> bool:
    switch = _SWITCHES.get(str(value).lower()) if isinstance(value, (bool, int, str)) else None
    if switch is None:
        raise ValueError("expected true or false")
    return switch


def _read_integer(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,30}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("expected a whole number")


def _read_number(value: Any) -> float:
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise ValueError("expected a number")
    return number


def _read_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("expected a text")


def _read_path(value: Any) -> Path:
    if isinstance(value, (str, Path)):
        return Path(value)
    raise ValueError("expected a path")


def _read_any(value: Any) -> Any:
    return value


_SCALARS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    bool: _read_switch,
    int: _read_integer,
    float: _read_number,
    str: _read_text,
    Path: _read_path,
    Any: _read_any,
}
