"""Lets each process of tests import and collect only the files that it runs, each when its turn comes.

pytest-xdist lets every process collect the whole suite, and then sends it the places of its tests in that list. Here
the list has one item for each file, which becomes the tests of that file when it runs. It also sends five messages for
each test, which cost more than most tests: here it sends the one that says how the test ended, and what else failed.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests import garbage

KEY = "lazy_collection"
"""The name under which the process that leads a run says to the others that they collect so."""

SHOWN_S = 0.005
"""Duration from which `--durations` shows a set-up or a tear-down (the default of `--durations-min`)."""


def suits(config: pytest.Config) -> bool:
    """Return whether whole files are to be run, each in one process; never so without pytest-xdist."""
    return config.getoption("dist", "no") == "loadfile" and not any("::" in argument for argument in config.args)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """State for a process that is about to start how it collects."""
    node.workerinput[KEY] = suits(node.config)


def pytest_configure(config: pytest.Config) -> None:
    """Collect so where the process that leads the run has stated it; that one shows how many tests have ended."""
    if getattr(config, "workerinput", {}).get(KEY, False):
        config.pluginmanager.register(LazyCollection(), KEY)
    elif suits(config):
        config.pluginmanager.register(Progress(config), KEY)


class Progress:
    """Shows the number of tests that have ended; how many there are is not known, so there is no percentage."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager
        self._ended = 0

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Begin a new line after each hundred tests; a tear-down may not be reported."""
        is_end = report.when == "call" or (report.when == "setup" and not report.passed)
        self._ended += is_end
        reporter: Any = self._plugins.get_plugin("terminalreporter")
        if is_end and self._ended % 100 == 0 and reporter is not None:
            reporter.write_line(f" {self._ended}")


class LazyCollection:
    """The hooks of a process that collects so."""

    def pytest_pycollect_makemodule(self, module_path: Any, parent: pytest.Collector) -> pytest.Collector:
        """Take a file without importing it."""
        file: pytest.Collector = LazyFile.from_parent(parent, path=module_path)
        return file

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
        """Select no file by `-m` or `-k`, which are about its tests."""
        if not all(isinstance(item, TestsOfFile) for item in items):
            return (yield)
        asked = config.option.markexpr, config.option.keyword
        config.option.markexpr = config.option.keyword = ""
        try:
            return (yield)
        finally:
            config.option.markexpr, config.option.keyword = asked

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run all tests of a file, or one of them."""
        if isinstance(item, TestsOfFile):
            item.run_tests(nextitem)
        else:
            run_and_report(item, nextitem)
        return True


def run_and_report(test: pytest.Item, following: pytest.Item | None) -> None:
    """Run a test and report what the process that leads the run shows; as pytest does it otherwise."""
    for report in runtestprotocol(test, log=False, nextitem=following):
        if is_shown(report):
            test.ihook.pytest_runtest_logreport(report=report)


def is_shown(report: pytest.TestReport) -> bool:
    """Return whether a report is the end of a test, a failure, or a set-up or tear-down that took long."""
    return report.when == "call" or not report.passed or report.duration >= SHOWN_S


class LazyFile(pytest.File):
    """A file of tests that is not imported."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item in the place of all its tests."""
        tests: pytest.Item = TestsOfFile.from_parent(self, name="*")
        tests.add_marker(pytest.mark.timeout(0))  # each test has a limit of its own
        yield tests


class TestsOfFile(pytest.Item):
    """The tests of one file, not collected."""

    __test__ = False

    def runtest(self) -> None:
        """Stand for the tests, which run in its place."""
        raise NotImplementedError

    def run_tests(self, following: pytest.Item | None) -> None:
        """Collect the tests and run them one after another; ``following`` is what this process runs next."""
        items = self.session.items
        place = items.index(self)
        tests = self._collect_tests()
        if not tests:  # what ran before was ended only so far as this file does not need it
            self.session._setupstate.teardown_exact(following)
        for test, after in zip(tests, [*tests[1:], following], strict=False):
            items[place] = test  # xdist compares each report with the item at the place that it has sent
            self.config.hook.pytest_runtest_protocol(item=test, nextitem=after)
            if self.session.shouldfail or self.session.shouldstop:
                break
        items[place] = self

    def _collect_tests(self) -> list[pytest.Item]:
        """Import the file and select its tests; a file that cannot be imported is an error of the run."""
        assert self.parent is not None
        with garbage.left_alone():
            module = pytest.Module.from_parent(self.parent.parent, path=self.path)
            tests = list(self.session.genitems(module))
            self.config.hook.pytest_collection_modifyitems(session=self.session, config=self.config, items=tests)
        return tests
