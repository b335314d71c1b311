"""Joins the modules of the console into a few files when they are read: many small ones compress badly, and each costs
a request.

A joined file has its modules one after the other in one scope, without the imports between them: names at the top level
of modules must be unique among them, and not those of the browser's globals. Tests hold both.
"""

import re
from collections.abc import Iterable, Mapping
from posixpath import dirname, join, normpath
from typing import Final

APP: Final = "app.js"
"""The frame of every page, and the view that most begin with."""

VIEWS: Final = "views.js"
"""All other views, with what they have in common."""

SIGN_IN: Final = "sign-in.js"
FIRST_VIEW: Final = "views/overview.js"
VENDOR: Final = "vendor/"
"""Modules below it are served as they are."""

_IMPORT: Final = re.compile(r'^import (?:\{([^}]*)\}|(\w+)) from "(\.[^"]+)";\n', re.MULTILINE)
_LATER: Final = re.compile(r'\bimport\("(\.[^"]+)"\)')
_OTHER: Final = re.compile(r"^(?:import\b[^(].*|export (?:default|\*).*|export .*\bfrom\b.*)$", re.MULTILINE)

_EXPORT: Final = re.compile(r"^export (?!const \w+View\b)(?=const|function|class|async)", re.MULTILINE)

Sources = Mapping[str, str]


def join_modules(sources: Sources) -> dict[str, tuple[str, ...]]:
    """Return which modules each served file has, in the order in which they run.

    Raises:
        KeyError: a module imports one that is not there.
    """
    app = _in_order(sources, (FIRST_VIEW, APP), frozenset())
    later = (_resolve_import(APP, path) for path in _LATER.findall(sources[APP]))
    return {
        APP: app,
        VIEWS: _in_order(sources, later, frozenset(app)),
        SIGN_IN: _in_order(sources, (SIGN_IN,), frozenset()),
    }


def _in_order(sources: Sources, names: Iterable[str], known: frozenset[str]) -> tuple[str, ...]:
    """Return modules and what they import, each after its imports."""
    found: dict[str, None] = {}
    open_ = set(known)

    def follow(name: str) -> None:
        if name in open_ or name.startswith(VENDOR):
            return
        open_.add(name)
        for _, _, path in _IMPORT.findall(sources[name]):
            follow(_resolve_import(name, path))
        found[name] = None

    for name in names:
        follow(name)
    return tuple(found)


def _resolve_import(name: str, path: str) -> str:
    return normpath(join(dirname(name), path))


def join_sources(sources: Sources, joined: Mapping[str, tuple[str, ...]], file: str) -> str:
    """Return the text of a served file; what it imports from another one stands at its beginning.

    Raises:
        ValueError: a module has an import or export that cannot be joined.
    """
    file_of = {module: name for name in (APP, VIEWS) for module in joined[name]} | dict.fromkeys(joined[file], file)
    imported: dict[str, dict[str, None]] = {}
    texts = [_without_imports(module, sources[module], file_of, imported) for module in joined[file]]
    imported.pop(file, None)
    if file != APP:  # nobody imports the others but for their views
        texts = [_EXPORT.sub("", text) for text in texts]
    heads = (f'import {{ {", ".join(names)} }} from "./{target}";\n' for target, names in imported.items())
    return "".join((*heads, *texts))


def _without_imports(module: str, source: str, file_of: Mapping[str, str], imported: dict[str, dict[str, None]]) -> str:
    for names, default, path in _IMPORT.findall(source):
        target = _resolve_import(module, path)
        wanted = [f"default as {default}"] if default else re.split(r"[,\s]+", names.strip(", \n"))
        imported.setdefault(file_of.get(target, target), {}).update(dict.fromkeys(wanted))
    text = _LATER.sub(
        lambda match: f'import("./{file_of[_resolve_import(module, match[1])]}")', _IMPORT.sub("", source)
    )
    if other := _OTHER.search(text):
        raise ValueError(
            f"{module}: {other[0]!r} cannot be joined; import names from a module, and export them by name"
        )
    return text
