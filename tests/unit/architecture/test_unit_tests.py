"""The folders of the unit tests mirror the packages, and each class with state of the larger ones has a unit test."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
PACKAGES = ("control", "monitor", "registry")
OTHER_SUBJECTS = {"architecture", "docs"}
CONTAINERS = {"Counter", "OrderedDict", "bytearray", "defaultdict", "deque", "dict", "list", "set"}

Name = tuple[str, str]
"""A module and a class in it."""


def test_each_folder_of_unit_tests_has_the_name_of_the_package_it_tests() -> None:
    unit = ROOT / "tests" / "unit"
    folders = {str(file.parent.relative_to(unit)) for file in unit.rglob("test_*.py")}
    assert len(folders) > 20  # the search finds something
    unknown = {folder for folder in folders - OTHER_SUBJECTS if not (SOURCE / "penstock" / folder).is_dir()}
    assert not unknown, "name the folder as the package, or list it in OTHER_SUBJECTS"


def test_every_class_with_state_is_imported_by_a_unit_test() -> None:
    classes = {
        (module_of(file), class_.name) for file in sources() for class_ in public_classes(file) if has_state(class_)
    }
    assert len(classes) > 50  # the search finds something
    untested = set(classes)
    for file in (ROOT / "tests" / "unit").rglob("*.py"):
        text = file.read_text()
        if any(name in text for _, name in untested):
            untested -= set(names_in(text))
    assert not untested, "write a unit test for each of these classes"


def test_state_is_what_changes_after_the_constructor() -> None:
    assert has_state(class_of("def __init__(self): self.seen = {}"))
    assert has_state(class_of("def __init__(self): self.seen: list[int] = []"))
    assert has_state(class_of("def __init__(self): self.seen = deque()"))
    assert has_state(class_of("def take(self): self.count += 1"))
    assert has_state(class_of("def take(self, key): self.memory[key] = 1"))
    assert not has_state(class_of("def __init__(self, clock): self.clock = clock"))
    assert not has_state(class_of("def take(self, other): other.count = 1"))
    assert not has_state(class_of("def __init__(self): seen = {}"))
    assert not has_state(class_of("def take(self): self.seen = 1", bases="(Protocol)"))
    assert not has_state(class_of("def take(self): self.seen = 1", bases="(ABC)"))
    assert not has_state(class_of("seen: dict = field(default_factory=dict)", before="@dataclass(frozen=True)\n"))


def test_a_name_counts_where_it_is_imported_and_not_where_it_is_only_written() -> None:
    test = "# a.b.Comment\nfrom a.b import Direct\nfrom a import c\nc.Attribute(); 'a.b.Text'\n"
    assert set(names_in(test)) == {("a.b", "Direct"), ("a", "c"), ("a.c", "Attribute")}


def class_of(body: str, bases: str = "", before: str = "") -> ast.ClassDef:
    found = ast.parse(f"{before}class It{bases}:\n    {body}\n").body[0]
    assert isinstance(found, ast.ClassDef)
    return found


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (SOURCE / "penstock" / package).rglob("*.py")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts)


def public_classes(file: Path) -> list[ast.ClassDef]:
    tree = ast.parse(file.read_text())
    return [item for item in tree.body if isinstance(item, ast.ClassDef) and not item.name.startswith("_")]


def has_state(found: ast.ClassDef) -> bool:
    """Whether objects of a class change: a method assigns to what is theirs, or the constructor makes a container."""
    if any(base in ast.dump(item) for item in found.bases for base in ("'Protocol'", "'ABC'")):
        return False
    if any("frozen" in ast.dump(item) for item in found.decorator_list):
        return False
    methods = [item for item in found.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(
        makes_a_container(method) if method.name == "__init__" else assigns_to_self(method) for method in methods
    )


def assigns_to_self(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    stores = (
        node
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
    )
    return any(is_of_self(node) for node in stores)


def is_of_self(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name) and node.id == "self"


def makes_a_container(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it gives the object a container that is not made of what is known already."""
    for node in ast.walk(method):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if value is not None and is_container(value) and any(is_of_self(target) for target in targets):
            return True
    return False


def is_container(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        made = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return isinstance(made, ast.Name) and made.id in CONTAINERS
    return isinstance(value, ast.Dict | ast.List | ast.Set)


def names_in(text: str) -> Iterator[Name]:
    """What a test imports from modules, and what it takes out of modules that it imports."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Attribute)]
    modules: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr
