"""What people write may be in any script, and may neither break an encoding nor steer a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.texts import is_readable, make_legible


@pytest.mark.parametrize("text", ["", "plain", "zwei Zeilen\nund\tein Tab\r\n", "größer · Ω · 模型 · 👩‍🔬", "שלום"])
def test_what_people_write_is_readable(text: str) -> None:
    assert is_readable(text)


@pytest.mark.parametrize("text", ["\x00", "a\x1b[31mred", "bell\x07", "\x7f", "\x9b31m", "\ud800", "half \udc80"])
def test_what_breaks_or_steers_is_not(text: str) -> None:
    assert not is_readable(text)
    assert "\ufffd" in make_legible(text)


def test_a_terminal_gets_lines_and_tabs_and_nothing_that_turns_or_covers_text() -> None:
    assert make_legible("one\n\ttwo") == "one\n\ttwo"
    assert make_legible("good\rbad \u202elive\u2066") == "good\ufffdbad \ufffdlive\ufffd"


@given(st.text(alphabet=st.characters(codec=None)))
def test_readable_texts_can_be_encoded_and_legible_ones_are_readable(text: str) -> None:
    assert is_readable(make_legible(text))
    assert len(make_legible(text)) == len(text)
    if is_readable(text):
        text.encode()
