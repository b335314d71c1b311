"""Patterns of values: what is masked, what is left, and that no text takes long."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.value_patterns import MASKED, PATTERNS, mask_values

EVERY = tuple(PATTERNS)


@pytest.mark.parametrize(
    ("pattern", "text", "masked"),
    [
        ("email", "write to ann.b+c@mail.example.org, please", "write to ***, please"),
        ("email", "a@b and x@y.z", "*** and ***"),
        ("email", "no address: a @ b, @c", "no address: a @ b, @c"),
        ("phone", "call +49 (30) 123-456 now", "call *** now"),
        ("phone", "0049 30 1234567.", "***."),
        ("phone", "on 2024-01-31 we sold 1234567 pieces at +5", "on 2024-01-31 we sold 1234567 pieces at +5"),
        ("payment_card", "paid with 4111 1111 1111 1111.", "paid with ***."),
        ("payment_card", "4111-1111-1111-1111", "***"),
        ("payment_card", "4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("payment_card", "order 12345", "order 12345"),
        ("iban", "to DE89 3704 0044 0532 0130 00 TODAY", "to *** TODAY"),
        ("iban", "GB82WEST12345698765432", "***"),
        ("iban", "GB82WEST12345698765433", "GB82WEST12345698765433"),
        ("ip", "from 10.0.255.1 to 10.0.256.1", "from *** to 10.0.256.1"),
        ("ip", "version 1.2.3.4.5", "version 1.2.3.4.5"),
    ],
)
def test_what_a_pattern_masks(pattern: str, text: str, masked: str) -> None:
    assert mask_values(text, [pattern]) == masked


def test_all_patterns_together() -> None:
    assert mask_values("a@b.c, +49 30 1234567, 10.0.0.1", EVERY) == f"{MASKED}, {MASKED}, {MASKED}"
    assert mask_values("a@b.c", ()) == "a@b.c"


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_masking_again_changes_nothing(text: str) -> None:
    masked = mask_values(text, EVERY)
    assert mask_values(masked, EVERY) == masked


@pytest.mark.parametrize("unit", ["a", "1", "a.", "+1 ", "1 ", "A", "AA11", "@", "a@", "1.", "+", "DE89 ", "0 "])
def test_hostile_texts_take_time_in_proportion(unit: str) -> None:
    def seconds(size: int) -> float:
        text, best = (unit * size)[:size], 1e9
        for _ in range(3):
            began = time.thread_time()
            mask_values(text, EVERY)
            best = min(best, time.thread_time() - began)
        return best

    assert seconds(1 << 15) < 40 * seconds(1 << 12) + 0.01
