"""Where a gateway may listen: every combination of what decides it."""

from itertools import product

import pytest

from penstock.core.access.exposure import INSECURE, Exposure

HOSTS = ("0.0.0.0", "ops.example")
BOTH = (False, True)


@pytest.mark.parametrize(("authenticates", "encrypts", "is_permitted"), [*product(BOTH, BOTH, BOTH)])
def test_beyond_loopback_it_takes_authentication_and_tls_or_a_permission(
    authenticates: bool, encrypts: bool, is_permitted: bool
) -> None:
    exposure = Exposure(HOSTS, authenticates, encrypts, is_permitted)
    assert exposure.is_insecure is not (authenticates and encrypts)
    assert exposure.is_refused is (exposure.is_insecure and not is_permitted)
    assert exposure.controls_repository is authenticates
    own = Exposure((), authenticates, encrypts, is_permitted)
    assert (own.is_insecure, own.is_refused, own.controls_repository) == (False, False, True)


@pytest.mark.parametrize(
    ("authenticates", "encrypts", "missing"),
    [(False, False, "auth and tls"), (True, False, "tls"), (False, True, "auth")],
)
def test_the_sentences_name_what_is_missing(authenticates: bool, encrypts: bool, missing: str) -> None:
    exposure = Exposure(HOSTS, authenticates, encrypts)
    assert f"needs the settings {missing};" in exposure.refusal()
    assert f"configure {missing}" in exposure.warning()
    for text in (exposure.refusal(), exposure.warning()):
        assert "0.0.0.0, ops.example" in text
        assert INSECURE in text
        assert "\n" not in text
