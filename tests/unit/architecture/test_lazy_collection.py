"""Processes that share a run import only the files that they run, and report as if they had collected them all."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COUNTED = "import os, pathlib\nwith pathlib.Path('imports').open('a') as file: file.write(__file__ + '\\n')\n"
FILES = {
    "conftest.py": "import pytest\n"
    "@pytest.fixture(scope='session')\ndef shared(): yield 1; open('ended', 'a').write('session ')\n"
    "@pytest.fixture(scope='module')\ndef own(): yield 2; open('ended', 'a').write('module ')\n",
    "test_a.py": COUNTED + "def test_one(shared, own): pass\ndef test_two(own): open('ended', 'a').write('two ')\n",
    "test_b.py": COUNTED
    + "import pytest\n@pytest.mark.parametrize('x', range(100))\ndef test_b(x, shared): assert x != 1\n",
    "test_c.py": COUNTED + "import not_there\n",
    "test_d.py": COUNTED + "import pytest\n@pytest.mark.slow\ndef test_d(): assert False\n",
    "test_e.py": COUNTED + "import pytest\n"
    "@pytest.fixture\ndef never_begins(): assert False\n@pytest.fixture\ndef never_ends(): yield; assert False\n"
    "def test_e(never_begins): pass\ndef test_f(never_ends): pass\ndef test_g(): pytest.skip()\n",
    "pytest.ini": "[pytest]\nmarkers =\n    slow: slow\n    timeout: of pytest-timeout\naddopts = -m 'not slow'\n",
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    for name, text in FILES.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.lazy_collection"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.processes
def test_each_file_is_imported_by_one_process(tmp_path: Path) -> None:
    result = run(tmp_path, "--numprocesses", "2", "--dist", "loadfile", "-o", "console_output_style=classic")
    assert result.returncode == 1
    assert "1 failed, 102 passed, 1 skipped, 3 errors" in result.stdout, result.stdout
    assert "test_b.py::test_b[1]" in result.stdout
    assert re.search(r"^[.FEs]* 100$", result.stdout, re.MULTILINE)
    assert "No module named 'not_there'" in result.stdout
    imports = (tmp_path / "imports").read_text().split()
    assert sorted(Path(path).name for path in imports) == [
        "test_a.py",
        "test_b.py",
        "test_c.py",
        "test_d.py",
        "test_e.py",
    ]


@pytest.mark.processes
def test_fixtures_end_as_they_do_where_all_is_collected_first(tmp_path: Path) -> None:
    run(tmp_path, "--numprocesses", "1", "--dist", "loadfile", "--no-loadscope-reorder")
    assert (tmp_path / "ended").read_text() == "two module session "


@pytest.mark.processes
def test_tests_that_are_named_are_collected_first(tmp_path: Path) -> None:
    result = run(tmp_path, "--numprocesses", "1", "--dist", "loadfile", "test_a.py::test_two")
    assert "1 passed" in result.stdout, result.stdout


@pytest.mark.processes
def test_names_and_marks_select_tests_and_not_files(tmp_path: Path) -> None:
    by_name = run(tmp_path, "--numprocesses", "1", "--dist", "loadfile", "-k", "test_two", "--ignore", "test_c.py")
    assert "1 passed" in by_name.stdout, by_name.stdout
    by_mark = run(tmp_path, "--numprocesses", "1", "--dist", "loadfile", "-m", "slow", "--ignore", "test_c.py")
    assert "1 failed" in by_mark.stdout, by_mark.stdout


@pytest.mark.processes
def test_a_file_without_selected_tests_ends_what_ran_before(tmp_path: Path) -> None:
    for name, text in {"near/test_f.py": "def test_f(): pass\n", "near/test_g.py": FILES["test_d.py"]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/test_h.py").write_text("def test_h(): pass\n")
    result = run(tmp_path, "--numprocesses", "1", "--dist", "loadfile", "--no-loadscope-reorder", "near", "other")
    assert "2 passed" in result.stdout, result.stdout


@pytest.mark.processes
def test_without_xdist_files_are_collected_as_ever(tmp_path: Path) -> None:
    """Mutation testing runs so."""
    result = run(tmp_path, "-p", "no:xdist", "test_a.py")
    assert "2 passed" in result.stdout, result
