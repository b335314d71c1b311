"""Modules are joined into few files: each after its imports, once, without the imports between them."""

import re
from collections import Counter

import pytest

from penstock.api.console.assets import FOLDER
from penstock.api.console.bundle import APP, FIRST_VIEW, SIGN_IN, VIEWS, join_modules, join_sources

SOURCES = {
    APP: 'import { a } from "./lib/a.js";\n'
    'const V = [() => import("./views/b.js"), () => import("./views/overview.js")];\na(V);\n',
    FIRST_VIEW: 'import { a } from "../lib/a.js";\nexport const overviewView = { a };\n',
    "lib/a.js": 'import v from "../vendor/v.mjs";\nexport const a = v;\n',
    "lib/c.js": "export async function c() {}\n",
    "views/b.js": 'import {\n  a,\n} from "../lib/a.js";\n'
    'import { c } from "../lib/c.js";\nexport const bView = { a, c };\n',
    SIGN_IN: 'import { c } from "./lib/c.js";\nawait c();\n',
    "vendor/v.mjs": "export default 1;",
}
TOP_LEVEL = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)


def test_each_module_comes_once_after_its_imports() -> None:
    assert join_modules(SOURCES) == {
        APP: ("lib/a.js", FIRST_VIEW, APP),
        VIEWS: ("lib/c.js", "views/b.js"),
        SIGN_IN: ("lib/c.js", SIGN_IN),
    }


def test_a_joined_file_imports_from_other_files_alone() -> None:
    joined = join_modules(SOURCES)
    assert join_sources(SOURCES, joined, APP) == (
        'import { default as v } from "./vendor/v.mjs";\nexport const a = v;\nexport const overviewView = { a };\n'
        'const V = [() => import("./views.js"), () => import("./app.js")];\na(V);\n'
    )
    assert join_sources(SOURCES, joined, VIEWS) == (
        'import { a } from "./app.js";\nasync function c() {}\nexport const bView = { a, c };\n'
    )
    assert join_sources(SOURCES, joined, SIGN_IN) == "async function c() {}\nawait c();\n"


@pytest.mark.parametrize(
    "line",
    ['import "./lib/a.js";', 'import * as a from "./lib/a.js";', 'export * from "./lib/a.js";', "export default 1;"],
)
def test_other_forms_of_imports_are_refused(line: str) -> None:
    sources = {**SOURCES, "lib/c.js": f"{line}\n"}
    with pytest.raises(ValueError, match=re.escape("lib/c.js")):
        join_sources(sources, join_modules(sources), VIEWS)


def test_names_at_the_top_level_are_unique_in_the_console() -> None:
    sources = {path.relative_to(FOLDER).as_posix(): path.read_text() for path in FOLDER.rglob("*.js")}
    joined = join_modules(sources)
    names = Counter(
        name for file in (APP, VIEWS) for module in joined[file] for name in TOP_LEVEL.findall(sources[module])
    )
    assert {name for name, count in names.items() if count > 1} == set()
