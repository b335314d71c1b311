"""The rows of a fleet: which gateways are asked and waited for, and how many rows of each are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.row_shares import (
    ENDED_S,
    SILENT_S,
    GatewayShare,
    RequestProgress,
    RowAmount,
    even_amounts,
    gateway_limit,
    missing_gateways,
    select_gateways,
)

SILENT = SILENT_S + 1


@pytest.mark.parametrize(
    ("members", "asked", "missing"),
    [
        ([], (), set()),
        ([GatewayShare("me", "h", 0)], (), set()),
        (
            [GatewayShare("c", "hc", 1), GatewayShare("b", "hb", SILENT_S), GatewayShare("me", "h", 0)],
            ("b", "c"),
            set(),
        ),
        ([GatewayShare("b", "hb", SILENT), GatewayShare("c", "hc", 1)], ("c",), {"b"}),
        ([GatewayShare("b", "hb", ENDED_S + 1)], (), set()),
        ([GatewayShare("b", "h", 1)], (), set()),  # it has the same files
        ([GatewayShare("b", "hb", 1), GatewayShare("c", "hb", 1)], ("b",), set()),
        ([GatewayShare("b", "hb", SILENT), GatewayShare("c", "hb", 1)], ("c",), set()),  # c has come in the place of b
        ([GatewayShare("b", "h", SILENT)], (), set()),
        ([GatewayShare("b", "", 1), GatewayShare("c", "", 1)], ("b", "c"), set()),
    ],
)
def test_which_gateways_to_ask(members: list[GatewayShare], asked: tuple[str, ...], missing: set[str]) -> None:
    roll = select_gateways(members, "me", "h")
    assert (roll.asked, set(roll.missing)) == (asked, missing)


def test_a_gateway_that_does_not_know_its_home_asks_all() -> None:
    assert select_gateways([GatewayShare("b", "", 1), GatewayShare("c", "hc", 1)], "me", "").asked == ("b", "c")


@pytest.mark.parametrize(
    ("progress", "found"),
    [
        (RequestProgress({"a"}, {"a": 1, "b": 1}, 50.0), None),
        (RequestProgress({"a", "b"}, {}, -1.0), {}),
        (RequestProgress({"a"}, {"a": 1}, 50.0), {"b": "it has left the fleet"}),
        (RequestProgress({"a"}, {"b": SILENT}, 50.0), {"b": "it has been silent for 16 s"}),
        (RequestProgress({"a"}, {"b": 1}, 0.0), {"b": "it did not answer within 120 s"}),
        (RequestProgress((), {"a": 1, "b": SILENT}, 50.0), None),
    ],
)
def test_which_gateways_to_wait_for(progress: RequestProgress, found: dict[str, str] | None) -> None:
    assert missing_gateways(["a", "b"], progress) == found


AMOUNTS = st.builds(RowAmount, st.integers(0, 1000), st.integers(0, 100_000))


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), AMOUNTS, max_size=8), AMOUNTS)
def test_shares_are_fair_and_within_the_bound(amounts: dict[str, RowAmount], most: RowAmount) -> None:
    taken = even_amounts(amounts, most)
    assert taken.keys() == amounts.keys()
    assert sum(taken.values(), RowAmount()).is_within(most)
    assert taken == even_amounts(dict(reversed(amounts.items())), most)
    for kind in ("rows", "size"):
        wanted = {name: getattr(amount, kind) for name, amount in amounts.items()}
        given_to = {name: getattr(item, kind) for name, item in taken.items()}
        if sum(wanted.values()) <= getattr(most, kind):
            assert given_to == wanted
        for name, amount in given_to.items():
            assert amount <= wanted[name]
            if amount < wanted[name]:  # nobody has more than one who wants more, but for what cannot be divided
                assert max(given_to.values()) <= amount + 1


@given(AMOUNTS, st.integers(0, 60))
def test_what_all_calls_over_is_bounded(most: RowAmount, gateways: int) -> None:
    one = gateway_limit(most, gateways)
    assert one.is_within(most)
    assert one.size * max(gateways, 1) <= 2 * most.size
