"""Tests get the logging of a fresh process, whatever the test before has set (tests/conftest.py)."""

import logging


def test_what_a_test_sets() -> None:
    logging.basicConfig(level=logging.CRITICAL, handlers=[logging.NullHandler()], force=True)
    logging.getLogger("penstock.of.a.test").setLevel(logging.CRITICAL)
    logging.disable(logging.CRITICAL)


def test_is_gone_in_the_next() -> None:
    assert logging.getLogger().level == logging.WARNING
    assert logging.NullHandler not in map(type, logging.getLogger().handlers)
    assert logging.getLogger("penstock.of.a.test").isEnabledFor(logging.WARNING)
