"""The static files: what is vendored is what npm has, and everything is served by digest, compressed and immutable."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from posixpath import normpath

import pytest

from penstock.api.console.assets import FOLDER, IMMUTABLE, STYLE, StaticFile, read_files, static_files
from penstock.api.console.bundle import APP, FIRST_VIEW, SIGN_IN, VIEWS
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
        address("views/model.js"),
        address("%2e%2e/markup.py"),
        address("/etc/passwd"),
    ],
)
def test_nothing_else_is_served(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["cache-control"] == "no-store"


def test_a_changed_name_or_content_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "views").mkdir()
    for name in (FIRST_VIEW, APP, SIGN_IN, STYLE):
        (tmp_path / name).write_text("")
    first = read_files(tmp_path).digest
    (tmp_path / "a.js").write_text("1;")
    second = read_files(tmp_path).digest
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    (tmp_path / "notes.txt").write_text("not served")
    third = read_files(tmp_path)
    assert len({first, second, third.digest}) == 3
    assert list(third.files) == [APP, "b.js", SIGN_IN, STYLE, VIEWS]


def test_a_file_is_compressed_once() -> None:
    file = StaticFile("x.css", b"body {}" * 100)
    assert file.packed is file.packed
    assert gzip.decompress(file.packed) == file.body
    assert file.content_type == "text/css; charset=utf-8"


def test_a_page_does_not_wait_until_scripts_are_compact() -> None:
    files = read_files()
    modules = [files.modules_of(name) for name in (APP, SIGN_IN, "views/try.js")]
    assert len(files.digest) == 16
    assert not any("body" in vars(file) for file in files.files.values())
    for name, file in files.files.items():  # what is served imports the same
        file.source = file.body
        assert files.files[name].body
    files._modules.clear()
    assert [files.modules_of(name) for name in (APP, SIGN_IN, "views/try.js")] == modules


def is_in_comment(text: str, at: int) -> bool:
    line = text[text.rfind("\n", 0, at) + 1 : at].lstrip()
    return line.startswith(("*", "//", "/*"))


def sources() -> dict[str, str]:
    """The modules as they are in the repository, by path."""
    return {path.relative_to(FOLDER).as_posix(): path.read_text() for path in FOLDER.rglob("*.*js")}


def test_every_import_names_a_file_by_a_relative_path() -> None:
    for name, text in sources().items():
        for match in IMPORT.finditer(text):
            if is_in_comment(text, match.start()):
                continue
            assert match[1].startswith(("./", "../")), (name, match[1])
            target = normpath(f"{Path(name).parent}/{match[1]}")
            assert target in sources(), (name, match[1])


def test_no_file_names_another_host_or_writes_markup_of_texts() -> None:
    for name, file in sources().items():
        text = file.replace("http://www.w3.org/", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]+/", text) or name.startswith("vendor/"), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text) or (
            name.startswith("vendor/")
        ), name
        assert "sourceMappingURL" not in text, name


def test_no_two_style_sheets_have_one_selector() -> None:
    """All sheets are served as one: what two say of one class would be a matter of their order."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.rglob("*.css")):
        if (name := path.relative_to(FOLDER).as_posix()) == STYLE:
            continue
        text = re.sub(r"@media[^{]*\{", "", re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL))
        for selector in {part.strip() for rule in re.findall(r"([^{}]+)\{", text) for part in rule.split(",")}:
            assert found.setdefault(selector, name) == name, selector
            assert "." in selector or selector == "canvas", f"{selector} in {name} belongs in style.css"


COMMON = {STYLE, "theme.js", "icon.svg"}
MOST_IN_ALL = 80 * KIB
MOST_OF_OVERVIEW = 40 * KIB


def size_of(names: Iterable[str]) -> int:
    return sum(len(static_files().files[name].packed) for name in names)


def test_the_overview_stays_within_its_budget() -> None:
    files = static_files()
    assert size_of({*files.modules_of(APP), *files.modules_of(FIRST_VIEW)} | COMMON) <= MOST_OF_OVERVIEW


def test_the_whole_console_stays_within_its_budget() -> None:
    assert size_of(static_files().files) <= MOST_IN_ALL


def test_every_module_is_served_in_one_file() -> None:
    files = static_files()
    modules = sources().keys() - {name for name in sources() if name.startswith("vendor/")}
    assert modules - files.file_of.keys() == {SIGN_IN, "theme.js"}
    assert {name for name in files.files if name.endswith("js")} == {
        *files.modules_of(APP),
        *files.modules_of(VIEWS),
        SIGN_IN,
        "theme.js",
    }
    assert files.modules_of("views/model.js") == files.modules_of(VIEWS) != files.modules_of(FIRST_VIEW)
