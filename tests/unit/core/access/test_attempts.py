"""Failed attempts are limited by address, bounded, and forgiven with time."""

import pytest

from penstock.core.access.attempts import FailedAttempts, address_key


def test_a_burst_is_allowed_and_then_one_waits() -> None:
    attempts = FailedAttempts(burst=3, per_second=2.0)
    for _ in range(3):
        assert attempts.wait_s("a", 10.0) == 0
        attempts.add("a", 10.0)
    assert attempts.wait_s("a", 10.0) == pytest.approx(0.5)
    assert attempts.wait_s("b", 10.0) == 0
    assert attempts.wait_s("a", 10.5) == 0


def test_failures_beyond_the_limit_do_not_lengthen_the_wait() -> None:
    attempts = FailedAttempts(burst=3, per_second=2.0)
    for _ in range(1000):
        attempts.add("a", 0.0)
    assert attempts.wait_s("a", 0.0) == pytest.approx(0.5)


def test_the_addresses_that_failed_last_are_remembered() -> None:
    attempts = FailedAttempts(burst=1, per_second=1.0, most=2)
    for address in ("a", "b", "a", "c"):
        attempts.add(address, 0.0)
    assert len(attempts) == 2
    assert attempts.wait_s("a", 0.0) > 0
    assert attempts.wait_s("b", 0.0) == 0


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        (("192.0.2.7", 4000), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4000, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2"),
        (("2001:db8:1::6", 1, 0, 0), "2001:db8:1:0"),
        (("2001:db8::1:2:3:4:5", 1, 0, 0), "2001:db8:0:1"),
        (("::1", 1, 0, 0), "0:0:0:0"),
        (("fe80::1%eth0", 1, 0, 2), "fe80:0:0:0"),
        (("fe80:1:2:3:4:5:6:7%::", 1, 0, 2), "fe80:1:2:3"),
        (("2001:db8::", 1, 0, 0), "2001:db8:0:0"),
        (("::2:3:4:5:6:7:8", 1, 0, 0), "0:2:3:4"),
        (("1:2:3:4:5:6:7::", 1, 0, 0), "1:2:3:4"),
        (("1::4:5:6:7:8", 1, 0, 0), "1:0:0:4"),
        ("/run/socket", ""),
        (None, ""),
        ((), ""),
    ],
)
def test_a_client_is_its_ipv4_address_or_its_ipv6_network(peer: object, key: str) -> None:
    assert address_key(peer) == key


def test_without_a_rate_nobody_waits() -> None:
    attempts = FailedAttempts(burst=1, per_second=0.0)
    for _ in range(3):
        attempts.add("a", 0.0)
    assert attempts.wait_s("a", 0.0) == 0.0
