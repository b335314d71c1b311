"""What the verbs need of a registry, and which of the two roads leads to it: a running gateway, or by hand."""

import getpass
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from penstock.cli.addresses import address_of, leads_to_a_port, registry_place, running_gateway, settings
from penstock.cli.client import CallFailed, Document
from penstock.cli.console import Exit
from penstock.cli.upload import BadModel, Upload
from penstock.core.errors import Fault

if TYPE_CHECKING:
    from penstock.cli.by_gateway import ByGateway

EXIT_OF = {
    "invalid": Exit.USAGE,
    "not_found": Exit.NOT_FOUND,
    "refused": Exit.REFUSED,
    "too_large": Exit.REFUSED,
    "conflict": Exit.CONFLICT,
    "overloaded": Exit.UNAVAILABLE,
    "not_ready": Exit.UNAVAILABLE,
    "deadline": Exit.UNAVAILABLE,
    "damaged": Exit.INTEGRITY,
}
"""What the command line exits with, by what kind of fault it was."""

Tell = Callable[[int, int], None]
"""Hears how many bytes of how many are done."""

Write = Callable[[bytes], object]
"""Takes the next bytes of what is exported."""


class Registry(Protocol):
    """What the verbs need; every call raises ``CallFailed``."""

    def models(self) -> list[Document]:
        """Every model."""

    def model(self, name: str) -> Document:
        """One model."""

    def push(self, model: str, version: str, data: Upload, metadata: Document, reason: str, tell: Tell) -> Document:
        """A new version."""

    def alias(
        self, model: str, alias: str, version: str, expected: str | None, reason: str, force: bool = False
    ) -> Document:
        """Move an alias; ``expected`` None compares nothing, "" means that it must be new; ``force`` moves the champion
        also where a route decides who answers."""

    def drop_alias(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """Take an alias away; ``force`` as for ``alias``."""

    def rollback(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """Lead an alias back; ``force`` as for ``alias``."""

    def retire(self, model: str, version: str, reason: str, force: bool = False) -> Document:
        """Take a version out of service."""

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """Change how versions come and go; without changes, tell how they do."""

    def set_reference(self, model: str, version: str, data: Upload, tell: Tell) -> Document:
        """Give a version its training data to be measured by."""

    def verify(self, tell: Tell) -> list[Document]:
        """Hash everything; what is not as it should be."""

    def export(self, model: str, version: str, write: Write, tell: Tell) -> str:
        """Hand out a version's bytes; their digest as the registry has it."""

    def collect(self) -> list[str]:
        """Delete what nobody needs."""

    def audit(self, model: str | None, limit: int) -> list[Document]:
        """Who changed what."""


def actor() -> str:
    """Who uses the command line, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def told(data: Upload, tell: Tell) -> Iterable[bytes]:
    """The bytes of an upload, told as they go.

    Raises:
        CallFailed: what is to be pushed can no longer be read.
    """
    done = 0
    try:
        for chunk in data.chunks:
            yield chunk
            done += len(chunk)
            tell(done, data.size)
    except (BadModel, Fault) as fault:
        raise CallFailed(str(fault), Exit.USAGE) from None
    except OSError as error:
        raise CallFailed(f"the model cannot be read: {(error.strerror or 'error').lower()}", Exit.USAGE) from None


def open_registry(url: str | None, registry: str | None) -> Registry:
    """The gateway that was named or runs on the registry; where none does, the registry itself.

    Raises:
        CallFailed: it cannot be opened.
    """
    if url is not None:
        return _gateway(address_of(url))
    found = settings(registry)
    place = registry_place(found)
    address = running_gateway(place, by_settings=registry is None and leads_to_a_port(found))
    if address:
        return _gateway(address)
    from penstock.cli.by_hand import ByHand

    return ByHand(place, found)


def open_gateway(url: str | None, registry: str | None) -> "ByGateway":
    """The gateway that was named or runs on the registry, for what only a gateway can do.

    Raises:
        CallFailed: none runs.
    """
    if url is not None:
        return _gateway(address_of(url))
    found = settings(registry)
    address = running_gateway(registry_place(found), by_settings=registry is None and leads_to_a_port(found))
    if address is None:
        raise CallFailed(
            "no gateway runs here; start one with: penstock serve, or name one with --url", Exit.UNAVAILABLE
        )
    return _gateway(address)


def _gateway(address: str) -> "ByGateway":
    from penstock.cli.by_gateway import ByGateway

    return ByGateway(address)
