"""The certificate files of the settings: read at the start and when they change, and passed on to all ports."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from penstock.api.tls import NO_AUTHORITY, NO_CERTIFICATE, TlsContexts
from penstock.config.settings import Settings
from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.certificates import TlsMaterial
from penstock.core.errors import InvalidInput
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.tls")

LOOK_S: Final = 1.0
MAX_FILE_BYTES: Final = 1 << 20

LOADED, REFUSED = "loaded", "refused"

OnChange = Callable[[TlsMaterial, bool], None]
"""Called with new material, and whether its client authorities differ from the earlier ones."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The files with a certificate chain, its key and the client authorities, in PEM form; ``client_required`` refuses
    clients without a certificate. The paths are not resolved: orchestrators replace the links in them."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_required: bool = False

    def read(self) -> TlsMaterial:
        """Return what the files hold now; blocks.

        Raises:
            InvalidInput: one cannot be read; the detail names it.
        """
        chain, key = _read(self.certificate, NO_CERTIFICATE), _read(self.key, NO_CERTIFICATE)
        authorities = "" if self.client_ca is None else _read(self.client_ca, NO_AUTHORITY)
        return TlsMaterial(chain, key, authorities, self.client_required)


class Certificates:
    """Keeps the ports of this process and of the workers up to date with the files.

    A change that cannot be used is reported, and the earlier material stays. Belongs to the event loop.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self.contexts = TlsContexts()
        self.material = files.read()
        self.contexts.use(self.material)
        self.files = files
        self._on_change: OnChange = lambda material, authorities_changed: None
        self._unusable: tuple[TlsMaterial | None, str] | None = None  # what the last look found, and why it is
        self._loads = Counter({LOADED: 0, REFUSED: 0})
        self._pool = BlockingPool("certificates", 1, "the folder of the certificates")

    def watch(self, on_change: OnChange) -> PeriodicTask:
        """Return the task that takes over changed files."""
        self._on_change = on_change
        meanwhile = "the certificates in use stay"
        return PeriodicTask("certificates", self.look, LOOK_S, delay_s=LOOK_S, meanwhile=meanwhile)

    async def look(self) -> None:
        """Take over the files if they have changed.

        Raises:
            InvalidInput: they cannot be used, and the last look found the same.
        """
        found: TlsMaterial | None = None
        try:
            found = await self._pool.call(self.files.read)
            if found == self.material:
                self._unusable = None
            else:
                self.contexts.use(found)
                self._take(found)
        except InvalidInput as fault:
            self._refuse(found, fault)

    def _take(self, material: TlsMaterial) -> None:
        authorities_changed = material.client_ca != self.material.client_ca
        self.material, self._unusable = material, None
        self._loads[LOADED] += 1
        self._on_change(material, authorities_changed)
        log.info("the certificates have changed; the new one expires at %s", _format_date(self.contexts.expires_at))

    def _refuse(self, material: TlsMaterial | None, fault: InvalidInput) -> None:
        """Report files that cannot be used, unless they may be half replaced: the next look may find the rest."""
        earlier, self._unusable = self._unusable, (material, fault.full_text)
        if self._unusable != earlier:
            return
        self._loads[REFUSED] += 1
        raise fault

    def close(self) -> None:
        """End the thread that reads the files."""
        self._pool.close()

    def readings(self) -> Iterator[Reading]:
        """When the certificates in use expire, and how often changed files were taken over or refused."""
        contexts = self.contexts
        yield Point(metrics.TLS_EXPIRATION, ("server",), contexts.expires_at)
        if contexts.authority_expires_at is not None:
            yield Point(metrics.TLS_EXPIRATION, ("client_ca",), contexts.authority_expires_at)
        for result, count in self._loads.items():
            yield Point(metrics.TLS_RELOADS, (result,), count)
        yield from self._pool.readings()


def certificates_of(settings: Settings) -> Certificates | None:
    """Return the certificates of the settings, None if they have no TLS.

    Raises:
        InvalidInput: the files cannot be used.
    """
    tls = settings.tls
    if tls is None:
        return None
    authority = None if settings.client_ca is None else _find_path(settings.client_ca)
    files = CertificateFiles(
        _find_path(tls.certificate_file), _find_path(tls.key_file), authority, tls.client == "required"
    )
    return Certificates(files)


def _find_path(path: Path) -> Path:
    return path.expanduser().absolute()


def _read(file: Path, problem: str) -> str:
    """Return the text of a file; raises ``InvalidInput``."""
    try:
        with file.open("rb") as content:
            data = content.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise InvalidInput(f"{problem}: {reason}", f"{problem}: {file}: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{problem}: a file is over the limit of {MAX_FILE_BYTES} bytes", f"{problem}: {file}")
    return data.decode("ascii", "replace")  # PEM is ASCII; comments between its blocks may be anything


def _format_date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
