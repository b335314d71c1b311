"""A prediction by way of the ops port states fields that rules may look at, and none that frame or authenticate it."""

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.forwarding import LONGEST_VALUE, MOST_FIELDS, check_forwarded


def test_fields_of_rules_are_kept() -> None:
    stated = {"X-User-Id": "7", "cookie": "a=b; c=d", "penstock-class": "batch", "x-request-id": "r1"}
    assert check_forwarded(stated) == {name.lower(): value for name, value in stated.items()}
    assert check_forwarded({}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "host",
        "Content-Length",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "sec-fetch-site",
        "origin",
        "penstock-timing",
        "",
        "a b",
        "x:y",
        "x\n",
        "é",
        "x" * 65,
    ],
)
def test_other_fields_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot state the field"):
        check_forwarded({name: "1"})


@pytest.mark.parametrize("value", ["", " a", "a ", "a\r\nb: c", "é", "x" * (LONGEST_VALUE + 1), 7, None, ["a"]])
def test_values_are_one_line_of_ascii(value: object) -> None:
    with pytest.raises(InvalidInput, match="ASCII characters"):
        check_forwarded({"x-user-id": value})


def test_the_number_of_fields_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        check_forwarded({f"x-{number}": "1" for number in range(MOST_FIELDS + 1)})
