"""Where a registry lies."""

from pathlib import Path

import pytest

from penstock.registry.location import location_of

HOME = Path("/home/penstock")


@pytest.mark.parametrize(
    ("registry", "blobs", "hides"),
    [
        ("", "", False),
        ("sqlite:////data/registry.db", "", False),
        ("postgresql://db/penstock", "", True),
        ("postgresql://db/penstock", "/home/penstock/blobs", True),
        ("postgresql://db/penstock", "/shared/blobs", False),
        ("postgresql://db/penstock", "s3://bucket/prefix", False),
    ],
)
def test_contents_are_hidden_from_other_gateways_where_only_the_database_is_shared(
    registry: str, blobs: str, hides: bool
) -> None:
    assert location_of(registry, HOME, blobs).hides_contents == hides
