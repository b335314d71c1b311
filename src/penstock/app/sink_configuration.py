"""What the configuration says about sinks: declared sinks, secrets, and hosts for the sinks of policies."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from penstock.app.start_failures import GatewayExitCode, StartFailed
from penstock.config.sections import MlflowSettings
from penstock.config.settings import Settings
from penstock.control.sinks import SinkContext
from penstock.control.sinks.credentials import secret_fault
from penstock.control.sinks.secret_store import SecretSource, SecretStore, read_secret_file
from penstock.core.addresses import parse_hosts
from penstock.core.masking import SecretMask
from penstock.core.secrets import Secret, SecretFault
from penstock.core.sink_rules import SinkRules
from penstock.core.sinks import BUILT_IN, SinkOrigin, SinkSpec, parse_sinks
from penstock.engine.durable_files import replace_file

KEY_BYTES = 32

CHECKPOINT_KINDS = frozenset(("webhook", "file", "nats"))
"""Kinds of this package that take any event; the others start a training, or raise an alert of a model."""


@dataclass(frozen=True, slots=True)
class SinkConfiguration:
    """The sinks of the configuration, the context of all sinks, and the faults of both."""

    declared: dict[str, SinkSpec]
    context: SinkContext
    faults: list[str]

    @property
    def rules(self) -> SinkRules:
        """Return what the sinks of policies may be."""
        return SinkRules(self.declared, self.context.hosts, partial(secret_fault, context=self.context))

    @property
    def rules_here(self) -> SinkRules:
        """Return the same where the gateway may run on another machine: secrets that are not here are passed."""
        fault = partial(secret_fault, context=self.context, allow_missing=True)
        return SinkRules(self.declared, self.context.hosts, fault)


def read_sink_configuration(settings: Settings, home: Path) -> SinkConfiguration:
    """Return what the settings say about sinks, after ``load_plugins``. Blocks, but runs no command."""
    faults: list[str] = []
    declared = parse_sinks(settings.sinks, faults, SinkOrigin.CONFIGURATION)
    store = SecretStore(
        {
            name: SecretSource(None if item.file is None else item.file.expanduser(), item.value, item.command)
            for name, item in settings.secrets.items()
        }
    )
    context = SinkContext(home, secrets=store, hosts=parse_hosts(settings.sink_hosts))
    faults += [f"secrets: {fault}" for fault in store.faults()] + _mlflow_faults(settings.mlflow, store)
    for name, spec in declared.items():
        faults += [
            f"'sinks.{name}' names no secret of the configuration: '{secret}'"
            for secret in spec.secret_names
            if secret not in settings.secrets
        ]
        if not faults and not any(map(store.is_printed, spec.secret_names)):
            faults += [f"'sinks.{name}': {fault}" for fault in filter(None, [secret_fault(spec, context)])]
    faults += _checkpoint_faults(settings.audit.sinks, declared)
    return SinkConfiguration(declared, context, faults)


def _checkpoint_faults(names: Sequence[str], declared: Mapping[str, SinkSpec]) -> list[str]:
    """Return why sinks cannot receive the checkpoints of the audit."""
    unknown = [f"'audit.sinks' names no sink of the configuration: '{name}'" for name in names if name not in declared]
    specs = [(name, declared[name].kind) for name in names if name in declared]
    return unknown + [
        f"'audit.sinks' cannot use '{name}': a sink of the kind {kind} takes no checkpoints; expected "
        f"{', '.join(sorted(CHECKPOINT_KINDS))}, or a sink of another package"
        for name, kind in specs
        if kind in BUILT_IN and kind not in CHECKPOINT_KINDS
    ]


def mlflow_secret(settings: MlflowSettings, store: SecretStore) -> Callable[[], Secret] | None:
    """Return what reads the secret of MLflow's webhooks, None if the settings have none; it raises ``SecretFault``."""
    if settings.webhook_secret is not None:
        return partial(store.get, settings.webhook_secret)
    if settings.webhook_secret_file is not None:
        return partial(read_secret_file, settings.webhook_secret_file.expanduser(), "mlflow.webhook_secret_file")
    return None


def _mlflow_faults(settings: MlflowSettings | None, store: SecretStore) -> list[str]:
    read = None if settings is None else mlflow_secret(settings, store)
    if settings is None or read is None or store.is_printed(settings.webhook_secret or ""):
        return []
    try:
        return [] if read().reveal() else ["mlflow: the secret of the webhook is empty"]
    except SecretFault as fault:
        return [f"mlflow: {fault}"]


def checked_sink_configuration(settings: Settings, home: Path) -> SinkConfiguration:
    """Return what the settings say about sinks; raises ``StartFailed`` with every fault."""
    found = read_sink_configuration(settings, home)
    if found.faults:
        raise StartFailed("; ".join(found.faults), GatewayExitCode.USAGE)
    return found


def read_mask(home: Path) -> SecretMask:
    """Return the mask of this home's secrets; its key is made when it is first needed. Blocks.

    Raises:
        OSError: the key can neither be read nor made.
    """
    path = home / "mask.key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != KEY_BYTES:
        key = secrets.token_bytes(KEY_BYTES)
        with replace_file(path) as scratch:
            scratch.chmod(0o600)
            scratch.write_bytes(key)
    return SecretMask(key)
