"""Deletes contents that no version and no lease needs.

The order makes it safe beside pushes on any number of machines: contents are marked in the database first, and a marked
content can neither be leased nor become a version.
"""

from penstock.registry.blobs.folder import BlobStore
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.stores.versions import VersionStore


def collect(store: VersionStore, blobs: BlobStore, layout: ContentLayout, grace_s: float) -> list[str]:
    """Delete contents older than ``grace_s`` seconds that nobody needs, and return their digests."""
    old = [digest for digest, age in blobs.stored() if age >= grace_s]
    unneeded = store.contents.mark_for_deletion(set(old) - store.contents.needed())
    for digest in unneeded:
        layout.forget(digest)
        blobs.delete(digest)
    if unneeded:
        store.contents.finish_deletion(unneeded)
    return unneeded
