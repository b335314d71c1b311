"""What the registry's admin gives a store of contents for one content."""

import pytest

from penstock.control.plane.registry_admin import SILENT_S, sending_s


@pytest.mark.parametrize(("size", "seconds"), [(0, SILENT_S), (1 << 20, SILENT_S + 1), (1 << 30, SILENT_S + 1024)])
def test_a_store_of_contents_is_given_longer_for_more_bytes(size: int, seconds: float) -> None:
    assert sending_s(size) == seconds
