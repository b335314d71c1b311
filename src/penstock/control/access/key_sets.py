"""The public keys of token issuers: from files, which are read again when they change, and from addresses."""

import http.client
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from penstock.control.calls.http_deadline import NoRedirect, send_request
from penstock.control.periodic import ProblemLog
from penstock.core.access.table import Issuer

WAIT_S: Final = 5.0
EARLY_S: Final = 5.0
"""Least time between two fetches of which the second is an early one."""

MOST_BYTES: Final = 1 << 20

SourceKey = tuple[str, str]
"""Issuer and audience, which name a source."""

_Stamp = tuple[int, int, int]
_UNREADABLE = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True, slots=True)
class IssuerSource:
    """An issuer without its keys, and where these are: a file, or an address (the other is None or "")."""

    issuer: Issuer
    file: Path | None = None
    url: str = ""

    @property
    def key(self) -> SourceKey:
        """Its name among the sources."""
        return self.issuer.issuer, self.issuer.audience


class EarlyFetches:
    """Decides when keys are fetched before their time: a token stated an unknown key, so an issuer may have a new one.
    Whoever sends such tokens causes one fetch in ``EARLY_S``, however many they are. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._known = 0
        self._last = float("-inf")

    def is_due(self, refused: int, now: float) -> bool:
        """Whether to fetch now; ``refused`` counts the tokens that stated an unknown key, and only grows."""
        return refused > self._known and now - self._last >= EARLY_S

    def begin(self, refused: int, now: float) -> None:
        """Record that a fetch begins, early or not."""
        self._known, self._last = refused, now


class KeySets:
    """The keys of some issuers. A set that cannot be read is kept as it was, and the problem is logged once.

    The methods ``read_files`` and ``fetch`` block; each may be called by one thread at a time.
    """

    def __init__(self, sources: Sequence[IssuerSource]) -> None:
        self._sources = sources
        self._texts: dict[SourceKey, str] = {}
        self._stamps: dict[SourceKey, _Stamp] = {}
        self._file_problems, self._url_problems = ProblemLog(), ProblemLog()

    @property
    def has_addresses(self) -> bool:
        """Whether keys have to be fetched."""
        return any(source.url for source in self._sources)

    @property
    def has_files(self) -> bool:
        """Whether keys are in files, which may change."""
        return any(source.file is not None for source in self._sources)

    def restore(self, issuers: Iterable[Issuer]) -> None:
        """Use the keys that an earlier process knew, until they are read."""
        known = {(issuer.issuer, issuer.audience): issuer.jwks for issuer in issuers}
        self._texts = {source.key: known[source.key] for source in self._sources if known.get(source.key)}

    def issuers(self) -> tuple[Issuer, ...]:
        """Return the issuers with their keys as last read; without any, all their tokens are refused."""
        return tuple(replace(source.issuer, jwks=self._texts.get(source.key, "")) for source in self._sources)

    def read_files(self) -> None:
        """Read the files that have changed."""
        for source in self._sources:
            if source.file is not None:
                self._read_file(source, source.file)

    def fetch(self) -> None:
        """Fetch the key sets that are at an address."""
        for source in self._sources:
            if source.url:
                self._fetch(source)

    def _read_file(self, source: IssuerSource, file: Path) -> None:
        try:
            state = file.stat()
            stamp = state.st_mtime_ns, state.st_size, state.st_ino
            if stamp != self._stamps.get(source.key):
                self._take(source, file.read_bytes()[: MOST_BYTES + 1])
                self._stamps[source.key] = stamp
        except _UNREADABLE as error:
            self._file_problems.report(source.key, _describe_kept(source, error))
        else:
            self._file_problems.clear(source.key)

    def _fetch(self, source: IssuerSource) -> None:
        request = urllib.request.Request(source.url, headers={"accept": "application/json"})  # noqa: S310 - https
        try:
            with send_request(request, WAIT_S, NoRedirect(), *_make_proxy_handlers(source.url)) as answer:
                self._take(source, answer.read(MOST_BYTES + 1))
        except _UNREADABLE as error:
            self._url_problems.report(source.key, _describe_kept(source, error))
        else:
            self._url_problems.clear(source.key)

    def _take(self, source: IssuerSource, content: bytes) -> None:
        """Keep a key set; raises ``ValueError`` if it is none."""
        from penstock.control.access.tokens import read_key_set  # noqa: PLC0415 - only where an issuer is configured

        if len(content) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
        text = content.decode()
        read_key_set(text)
        self._texts[source.key] = text


def _make_proxy_handlers(url: str) -> tuple[urllib.request.BaseHandler, ...]:
    """Return what keeps plain HTTP from a proxy of the environment: it is allowed on this machine alone, as whoever
    can change the keys on their way can sign tokens."""
    return () if url.startswith("https:") else (urllib.request.ProxyHandler({}),)


def _describe_kept(source: IssuerSource, error: Exception) -> str:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    where = source.url or f"file {source.file}"
    return f"auth.oidc: the keys of {source.issuer.issuer} cannot be read from {where} and stay as they are: {reason}"
