"""Builds what decides who may do what: the authenticator, the access table and the administration of API keys."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.config.access import AuthSettings, OidcSettings
from penstock.config.sections import QuotaSettings
from penstock.control.access.access_tables import AccessSources, AccessTables
from penstock.control.access.authenticator import Authenticator
from penstock.control.access.fleet_quotas import FleetQuotas, Shares
from penstock.control.access.key_admin import KeyAdmin
from penstock.control.access.key_sets import IssuerSource, KeySets
from penstock.control.access.refusals import RefusalCounts
from penstock.control.access.worker_counts import WorkerCounts
from penstock.control.calls.blocking import pool_readings
from penstock.control.periodic import PeriodicTask
from penstock.core.access.refusals import RefusalReason
from penstock.core.access.table import UNLIMITED, AccessTable, Binding, Issuer, Quota
from penstock.core.errors import InvalidInput
from penstock.monitor.counters.slot import Slot
from penstock.registry.location import RegistryLocation
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.keys import KeyStore
from penstock.telemetry.readings import Reading

if TYPE_CHECKING:
    from penstock.api.admin.access import AccessApi


@dataclass(frozen=True, slots=True)
class AccessServices:
    """Who may do what on one gateway: ``authenticator`` knows callers, ``tables`` keeps it and the workers current,
    ``refusals`` counts, ``keys`` administers API keys, ``workers`` has what the workers count, and ``quotas`` are
    shared with other gateways."""

    authenticator: Authenticator
    tables: AccessTables
    refusals: RefusalCounts
    keys: KeyAdmin
    workers: WorkerCounts
    quotas: FleetQuotas

    def api(self) -> "AccessApi":
        """Return what the ops port needs of it."""
        from penstock.api.admin.access import AccessApi  # noqa: PLC0415 - its imports take long

        return AccessApi(self.keys, self.authenticator, self.refusals)

    def tasks(self) -> tuple[PeriodicTask, ...]:
        """Return the periodic tasks."""
        return self.tables.tasks

    def readings(self) -> Iterator[Reading]:
        """Return the metrics."""
        yield from self.refusals.readings()
        yield from self.workers.readings()
        yield from pool_readings((*self.tables.pools, *self.keys.pools))

    def close(self) -> None:
        """End the threads."""
        self.tables.close()
        self.keys.close()


def open_access(
    settings: AuthSettings | None,
    location: RegistryLocation,
    connections: Connections,
    announce: Callable[[AccessTable], None],
    slots: Sequence[Slot] = (),
    share: Callable[[Shares], None] = lambda _: None,
    addresses: QuotaSettings | None = None,
) -> AccessServices:
    """Build the services over the registry's database; ``announce`` sends the table to the workers of these slots, and
    ``share`` this gateway's shares of quotas; ``addresses`` is the quota of each client address."""
    store, authenticator, counts = KeyStore(connections), Authenticator(time.time), WorkerCounts(slots)

    def publish(table: AccessTable) -> None:
        counts.use(table)
        announce(table)

    accepts_keys = settings is not None and settings.keys
    key_sets = KeySets([_build_source(item) for item in settings.oidc] if settings else [])
    refusals = RefusalCounts()
    refusals.add_source(counts.refusals)
    sources = AccessSources(
        _build_table(settings, addresses),
        store if accepts_keys else None,
        key_sets,
        location.access_file,
        partial(refusals.total, RefusalReason.UNKNOWN_SIGNING_KEY),
        store.change_mark,
    )
    tables = AccessTables(sources, authenticator, publish)
    keys = KeyAdmin(store, tables.refresh, accepts_keys, connections.clock.now)
    return AccessServices(authenticator, tables, refusals, keys, counts, FleetQuotas(counts, share))


def check_access(settings: AuthSettings | None) -> None:
    """Check that the issuers of tokens can be used, before the start.

    Raises:
        InvalidInput: a library is missing, or a file of keys cannot be read.
    """
    if settings is None or not settings.oidc:
        return
    if find_spec("joserfc") is None:
        raise InvalidInput("auth.oidc needs the extra 'oidc': pip install 'penstock[oidc]'")
    for issuer in settings.oidc:
        if issuer.jwks_file is not None:
            _check_key_file(issuer.jwks_file.expanduser())


def _check_key_file(file: Path) -> None:
    from penstock.control.access.tokens import InvalidKeySet, read_key_set  # noqa: PLC0415 - only with issuers

    try:
        read_key_set(file.read_text())
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise InvalidInput(f"auth.oidc: the file {file} cannot be read: {reason}") from None
    except ValueError as error:
        reason = str(error) if isinstance(error, InvalidKeySet) else "it is not a text"
        raise InvalidInput(f"auth.oidc: the file {file} cannot be used: {reason}") from None


def _build_table(settings: AuthSettings | None, addresses: QuotaSettings | None) -> AccessTable:
    """Return what the settings say of the access table."""
    if settings is None:
        return AccessTable(addresses=_build_quota(addresses))
    bindings = tuple(
        Binding(item.role, item.caller, item.group, item.models, _build_quota(item.quota)) for item in settings.bindings
    )
    return AccessTable(enabled=True, dry_run=settings.dry_run, bindings=bindings)


def _build_quota(settings: QuotaSettings | None) -> Quota:
    return UNLIMITED if settings is None else Quota(**settings.values())


def _build_source(settings: OidcSettings) -> IssuerSource:
    prefix = f"{settings.issuer}#" if settings.username_prefix is None else settings.username_prefix
    issuer = Issuer(
        settings.issuer,
        settings.audience,
        "",
        settings.username_claim,
        prefix,
        settings.groups_claim,
        settings.groups_prefix,
    )
    file = None if settings.jwks_file is None else settings.jwks_file.expanduser()
    return IssuerSource(issuer, file, settings.jwks_url or "")
