"""The static files: what is vendored is what npm has, and everything is served by digest, compressed and immutable."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from posixpath import normpath

import pytest

from penstock.api.console.assets import FOLDER, IMMUTABLE, StaticFile, StaticFiles, static_files
from tests.unit.api.admin.conftest import Client

VENDOR = FOLDER / "vendor"
MANIFEST = json.loads((VENDOR / "MANIFEST.json").read_text())
IMPORT = re.compile(r"""(?:\bfrom\s*|\bimport\s*\(?\s*)["']([^"']+)["']""")
KIB = 1024


def address(name: str) -> str:
    return f"/console/static/{static_files().digest}/{name}"


@pytest.mark.parametrize("entry", MANIFEST, ids=[entry["file"] for entry in MANIFEST])
def test_a_vendored_file_is_what_the_manifest_says(entry: dict[str, str]) -> None:
    content = (VENDOR / entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert entry["integrity"].startswith("sha512-")
    assert entry["version"] and entry["licence"]
    assert (VENDOR / entry["licence_file"]).stat().st_size > 500


def test_every_vendored_file_is_in_the_manifest() -> None:
    assert {path.name for path in VENDOR.glob("*.*js")} == {entry["file"] for entry in MANIFEST}


def test_files_are_compressed_immutable_and_vary(client: Client) -> None:
    packed = client.get(address("app.js"), {"accept-encoding": "gzip"})
    plain = client.get(address("app.js"), {"accept-encoding": "identity"})
    assert (packed.status_code, packed.headers["content-encoding"]) == (200, "gzip")
    assert packed.content == plain.content == static_files().files["app.js"].body
    assert "content-encoding" not in plain.headers
    for answer in (packed, plain):
        assert answer.headers["cache-control"] == IMMUTABLE
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "/console/static/0000000000000000/app.js",
        address("no.js"),
        address("vendor/MANIFEST.json"),
        address("vendor/preact.d.mts"),
        address("%2e%2e/markup.py"),
        address("/etc/passwd"),
    ],
)
def test_nothing_else_is_served(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["cache-control"] == "no-store"


def test_a_changed_name_or_content_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    first = StaticFiles(tmp_path).digest
    (tmp_path / "a.js").write_text("2")
    second = StaticFiles(tmp_path).digest
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    (tmp_path / "notes.txt").write_text("not served")
    third = StaticFiles(tmp_path)
    assert len({first, second, third.digest}) == 3
    assert list(third.files) == ["b.js"]


def test_a_file_is_compressed_once() -> None:
    file = StaticFile("x.css", b"body {}" * 100)
    assert file.packed is file.packed
    assert gzip.decompress(file.packed) == file.body
    assert file.content_type == "text/css; charset=utf-8"


def imports_of(name: str) -> set[str]:
    """A module with all that it imports, without what it loads later."""
    found, open_ = set[str](), [name]
    while open_:
        name = open_.pop()
        if name in found:
            continue
        found.add(name)
        text = static_files().files[name].body.decode()
        static = [
            text[match.start() :].startswith("from") or "import(" not in match[0] for match in IMPORT.finditer(text)
        ]
        for match, is_static in zip(IMPORT.finditer(text), static, strict=True):
            if is_static and not is_in_comment(text, match.start()):
                open_.append(normpath(f"{Path(name).parent}/{match[1]}"))
    return found


def is_in_comment(text: str, at: int) -> bool:
    line = text[text.rfind("\n", 0, at) + 1 : at].lstrip()
    return line.startswith(("*", "//", "/*"))


def test_every_import_names_a_file_by_a_relative_path() -> None:
    for name, file in static_files().files.items():
        if not name.endswith(("js", "mjs")):
            continue
        text = file.body.decode()
        for match in IMPORT.finditer(text):
            if is_in_comment(text, match.start()):
                continue
            assert match[1].startswith(("./", "../")), (name, match[1])
            target = normpath(f"{Path(name).parent}/{match[1]}")
            assert target in static_files().files, (name, match[1])


def test_no_file_names_another_host_or_writes_markup_of_texts() -> None:
    for name, file in static_files().files.items():
        text = file.body.decode().replace("http://www.w3.org/", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]+/", text) or name.startswith("vendor/"), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text) or (
            name.startswith("vendor/")
        ), name
        assert "sourceMappingURL" not in text, name


def size_of(names: set[str]) -> int:
    return sum(len(static_files().files[name].packed) for name in names)


def test_no_two_style_sheets_have_one_selector() -> None:
    """The sheet of a view stays when another is shown: what two say of one class depends on the way to the page."""
    found: dict[str, str] = {}
    for name, file in static_files().files.items():
        if name == "style.css" or not name.endswith(".css"):
            continue
        text = re.sub(r"@media[^{]*\{", "", re.sub(r"/\*.*?\*/", "", file.body.decode(), flags=re.DOTALL))
        for selector in {part.strip() for rule in re.findall(r"([^{}]+)\{", text) for part in rule.split(",")}:
            assert found.setdefault(selector, name) == name, selector
            assert "." in selector or selector == "canvas", f"{selector} in {name} belongs in style.css"


COMMON = ("style.css", "theme.js", "icon.svg")
MOST_IN_ALL = 120 * KIB


def files_of(view: str) -> set[str]:
    """What a page loads to show a view, with its style sheets."""
    scripts = imports_of("app.js") | imports_of(view)
    styles = {name.replace(".js", ".css") for name in (view, "components/route-editors.js")} | {
        "components/editors.css"
    }
    return scripts | set(COMMON) | (styles & set(static_files().files))


@pytest.mark.parametrize("view", sorted(name for name in static_files().files if re.fullmatch(r"views/.*\.js", name)))
def test_every_view_stays_within_its_budget(view: str) -> None:
    most = 40 if view == "views/overview.js" else 80
    assert size_of(files_of(view)) <= most * KIB


def test_the_whole_console_stays_within_its_budget() -> None:
    assert size_of(set(static_files().files)) <= MOST_IN_ALL


@pytest.mark.parametrize(
    ("source", "served"),
    [
        ("// a\n/** b\n * c */\nlet d; // e\n  // f\n", "let d; // e\n"),
        ("  /* a */\n/** @type {b} */ const c = 1;\n", "const c = 1;\n"),
        ("f((/** @type {Event} */ event) => 1);\n", "f((event) => 1);\n"),
        ("/**\n * a **\n */\nlet b = `\n  c // d`;\n", "let b = `\n  c // d`;\n"),
    ],
)
def test_comments_that_have_their_lines_to_themselves_are_not_served(tmp_path: Path, source: str, served: str) -> None:
    (tmp_path / "vendor").mkdir()
    for name in ("a.js", "a.css", "a.mjs", "vendor/a.js"):
        (tmp_path / name).write_text(source)
    files = StaticFiles(tmp_path).files
    assert {name: file.body.decode() for name, file in files.items()} == {
        "a.css": served,
        "a.js": served,
        "a.mjs": source,
        "vendor/a.js": source,
    }
