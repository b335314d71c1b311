"""Clears away contents that no version and nobody at work needs.

The order is what makes it safe beside pushes on any number of machines: what is to go is condemned in the database
first, and while it is, nobody can take a lease on it or make it a version.
"""

from penstock.registry.blobs.folder import Blobs
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.stores.versions import Store


def collect(store: Store, blobs: Blobs, shelf: ContentLayout, grace_s: float) -> list[str]:
    """Delete contents older than ``grace_s`` seconds that nobody needs; their digests."""
    old = [digest for digest, age in blobs.stored() if age >= grace_s]
    doomed = store.contents.condemn(set(old) - store.contents.needed())
    for digest in doomed:
        shelf.forget(digest)
        blobs.delete(digest)
    if doomed:
        store.contents.buried(doomed)
    return doomed
