"""The instructions of a request are read from what callgrind writes."""

from pathlib import Path

import pytest

from loadtests.instructions import read_instructions, under_callgrind


def test_the_total_of_a_profile_is_that_of_its_last_part() -> None:
    text = "version: 1\nevents: Ir\nsummary: 12\nfn=(1) main\n3 12\ntotals: 400\n"
    assert read_instructions(text) == 400


def test_a_profile_without_a_total_is_an_error() -> None:
    with pytest.raises(ValueError, match="no total"):
        read_instructions("version: 1\n")


def test_nothing_is_counted_before_it_is_asked_for() -> None:
    command = under_callgrind(Path("profiles"))
    assert command[0] == "valgrind"
    assert {"--instr-atstart=no", "--callgrind-out-file=profiles/%p"} <= set(command)
