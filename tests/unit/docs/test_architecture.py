"""The drawings in docs/architecture.md show the imports of the code, no more and no fewer."""

import re
from itertools import product
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
DRAWINGS = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL)
Edges = set[tuple[str, str]]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("penstock", cache_dir=None)


def arrows(drawing: str) -> Edges:
    """Every arrow of a flow chart; ``a & b --> c & d`` is four of them."""
    found: Edges = set()
    for sources, targets in re.findall(r"^ +([\w &]+) --> ([\w &]+)$", drawing, re.MULTILINE):
        found |= set(product(sources.split(" & "), targets.split(" & ")))
    return found


def test_the_drawing_of_the_packages_is_the_imports_between_them(graph: grimp.ImportGraph) -> None:
    imports: Edges = set()
    for module in graph.modules:
        for target in graph.find_modules_directly_imported_by(module):
            imports.add((package_of(module), package_of(target)))
    drawn = {edge for edge in imports if "" not in edge and edge[0] != edge[1]}
    assert arrows(DRAWINGS[0]) == drawn


def package_of(module: str) -> str:
    """The package below ``penstock`` that a module lies in; empty for those that belong to none."""
    name = module.removeprefix("penstock").lstrip(".").split(".")[0]
    return "" if name.startswith("_") else name


def test_every_arrow_of_the_request_path_is_an_import(graph: grimp.ImportGraph) -> None:
    files = dict(re.findall(r'^ +(\w+)\["([\w/]+)\.py"\]$', DRAWINGS[1], re.MULTILINE))
    modules = {name: "penstock." + path.replace("/", ".") for name, path in files.items()}
    path = arrows(DRAWINGS[1])
    assert len(path) > 8
    for source, target in path:
        assert graph.direct_import_exists(importer=modules[source], imported=modules[target]), (source, target)
    assert set(modules.values()) <= graph.modules
