"""The servers the acceptance suite talks to, each started once, and stopped when none needs it."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import again, garbage, harness, lazy_collection, scheduling, zoo
from tests.budgets import examples
from tests.harness import Server

# A busy machine fails nothing.
hypothesis.settings.register_profile("no wall clock", deadline=None, max_examples=examples(100))
hypothesis.settings.load_profile("no wall clock")
# Mutation testing needs the same answer in each run, and no smallest example.
hypothesis.settings.register_profile(
    "mutation",
    hypothesis.settings.get_profile("no wall clock"),
    database=None,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)

TESTS = Path(__file__).parent
LONGEST = (
    "faults",
    "integration/traffic",
    "docs",
    "demo",
    "clients",
    "integration",
    "loadtests",
    "simulation",
    "unit/control",
)
SOURCE = TESTS.parent / "src"

ENDS: list[Callable[[], None]] = []
"""Ends of what a group of files shares, for use after the last of them."""


def pytest_configure(config: pytest.Config) -> None:
    """Test what is written, not what was built from something older."""
    config.pluginmanager.register(lazy_collection)
    for path in SOURCE.rglob("*.so"):
        written = path.with_name(f"{path.name.partition('.')[0]}.py")
        if written.exists() and written.stat().st_mtime > path.stat().st_mtime:
            pytest.exit(f"{written} has changed since it was compiled; run: make install")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders of the longest tests, so that several processes end together, and keep groups whole."""
    items.sort(key=lambda item: rank(scheduling.scope(item.nodeid).removeprefix("tests/")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End with a group what it shares: until the end of the run, the server of the zoo takes a tenth of a core."""
    yield
    if nextitem is not None and scheduling.scope(nextitem.nodeid) != scheduling.scope(item.nodeid):
        while ENDS:
            ENDS.pop()()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage while tests are collected: there is hardly any, and it takes a fifth of the time."""
    with garbage.left_alone():
        return (yield)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how the run ended, for `make test-again`."""
    again.note_status(session.config, exitstatus)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Take the project's own scheduler for whole files."""
    return scheduling.scheduler(config, log) if config.getoption("dist") == "loadfile" else None


def rank(path: str) -> int:
    """The place of a file of tests among the longest."""
    return next((place for place, folder in enumerate(LONGEST) if path.startswith(folder)), len(LONGEST))


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with every model of the zoo."""
    return zoo.build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a few harmless models."""
    return zoo.build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def server(request: Any, zoo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker that serves the whole zoo; tests leave it as they found it."""
    ENDS.append(partial(request._fixturedef.finish, request))
    with harness.running(zoo_folder, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def pair_server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers on shared ports."""
    with harness.running(tiny_folder, tmp_path_factory.mktemp("pair"), "--workers", "2") as started:
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Give the next test the logging that this one found: some start what sets the levels of a process."""
    root = logging.getLogger()
    levels, handlers, disabled = _log_levels(), root.handlers[:], root.manager.disable
    try:
        return (yield)
    finally:
        root.handlers[:], root.manager.disable = handlers, disabled
        for logger, level in _log_levels().items():
            if level != levels.get(logger, logging.NOTSET):
                logger.setLevel(levels.get(logger, logging.NOTSET))


def _log_levels() -> dict[logging.Logger, int]:
    """The levels of all loggers, the root among them."""
    known = [item for item in logging.root.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    return {logger: logger.level for logger in (logging.root, *known)}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Put the end of the servers' stderr beside a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server):
                report.sections.append((f"stderr of {name}", value.log_text()[-4000:]))
