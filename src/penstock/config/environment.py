"""Reads settings from environment variables: ``PENSTOCK_HTTP_PORT``, and ``PENSTOCK_STOP__DRAIN_DELAY_SECONDS``.

Sections, lists and mappings may be stated whole, as JSON. Variables that Kubernetes makes for a service are no
settings.
"""

import json
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from penstock.config.fields import Prepare, Section
from penstock.config.reading import SettingFault

PREFIX: Final = "penstock_"
BETWEEN: Final = "__"

_SERVICE: Final = "_PORT"
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://[0-9a-fA-F.:\[\]]+:[0-9]{1,5}")
"""The value of ``NAME_PORT``, which Kubernetes sets for a service ``name``, beside ``NAME_SERVICE_HOST``."""


def read_environment(
    section: type[Section], environment: Mapping[str, str], faults: list[SettingFault]
) -> dict[str, Any]:
    """Return the values that variables state for settings, as a document; others are not looked at."""
    document: dict[str, Any] = {}
    for variable in sorted(environment, key=len):  # a whole section before what is in it
        path = _path_of(variable)
        if path[0] in section.kinds and not _is_service_link(variable, environment):
            stated = _decode(_kind_at(section, path), environment[variable], tuple(path), faults)
            for part in reversed(path):
                stated = {part: stated}
            document = merge(stated, document)
    return document


def find_service_links(section: type[Section], environment: Mapping[str, str]) -> list[str]:
    """Return the variables that have the name of a setting but are of a Kubernetes service, such as
    ``PENSTOCK_HTTP_PORT=tcp://10.0.0.1:8000`` of ``penstock-http``."""
    candidates = (variable for variable in sorted(environment) if _path_of(variable)[0] in section.kinds)
    return [variable for variable in candidates if _is_service_link(variable, environment)]


def _path_of(variable: str) -> list[str]:
    """Return the path of the setting that a variable would state; ``[""]`` for a variable of another program."""
    name = variable.lower()
    return name.removeprefix(PREFIX).split(BETWEEN) if name.startswith(PREFIX) else [""]


def _is_service_link(variable: str, environment: Mapping[str, str]) -> bool:
    return (
        variable.endswith(_SERVICE)
        and f"{variable.removesuffix(_SERVICE)}_SERVICE_HOST" in environment
        and _SERVICE_LINK.fullmatch(environment[variable]) is not None
    )


def merge(stated: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return two documents as one; where both state a value, that of ``stated`` counts."""
    merged = {**others, **stated}
    for name in stated.keys() & others.keys():
        if isinstance(stated[name], Mapping) and isinstance(others[name], Mapping):
            merged[name] = merge(stated[name], others[name])
    return merged


def _kind_at(kind: Any, path: list[str]) -> Any:
    """Return the type of the setting at a path, ``Any`` if there is none."""
    for name in path:
        kind = _strip_type(kind)
        if isinstance(kind, type) and issubclass(kind, Section):
            kind = kind.kinds.get(name, Any)
        else:
            kind = get_args(kind)[1] if get_origin(kind) is Mapping else Any
    return kind


def _strip_type(kind: Any) -> Any:
    """Return a type without what is annotated to it, and without None."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = next(item for item in get_args(kind) if item is not NoneType)
    return kind


def _decode(kind: Any, text: str, path: tuple[str, ...], faults: list[SettingFault]) -> Any:
    """Return the value of a variable: a text, or what its JSON states of a section, a list or a mapping."""
    if get_origin(kind) is Annotated and any(isinstance(note, Prepare) for note in get_args(kind)[1:]):
        return text
    plain = _strip_type(kind)
    is_section = isinstance(plain, type) and issubclass(plain, Section)
    if not is_section and get_origin(plain) not in (tuple, Mapping) and plain is not Any:
        return text
    try:
        return json.loads(text)
    except ValueError:
        if plain is not Any:
            faults.append(SettingFault(path, "expected JSON in the environment"))
        return text
