"""Certificates that the tests of TLS share: one of a port, and an authority of clients."""

import pytest

from tests.certificates import Pair, make_authority, make_certificate


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The certificate of a port, which is its own authority."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An authority of clients."""
    return make_authority(tmp_path_factory.mktemp("authority"))
