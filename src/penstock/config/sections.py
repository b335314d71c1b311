"""The sections of the settings: each option with its type, its bounds and its default."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from penstock.config.fields import Check, Expected, Field, Prepare, Section
from penstock.core.addresses import parse_hosts
from penstock.core.secrets import Secret

Seconds = Annotated[float, Field(ge=0, le=86_400)]

PositiveSeconds = Annotated[float, Field(gt=0, le=86_400)]


MemoryBytes = Annotated[
    Annotated[int, Field(ge=1 << 20, le=1 << 44)] | Literal["auto"],
    Expected("expected a number of bytes from 1048576, or auto"),
]


MessageBytes = Annotated[int, Field(ge=1024, le=2**31 - 1)]


Rate = Annotated[float, Field(ge=0, le=1e12)]


class QuotaSettings(Section):
    """Limits of one caller over all workers; 0 is no limit."""

    requests: Rate = 0.0
    """Requests per second."""

    rows: Rate = 0.0
    """Rows per second."""

    model_ms: Rate = 0.0
    """Milliseconds in the model per second."""

    concurrent: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests at a time."""

    body_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    """Bytes of requests at a time."""


class LimitSettings(Section):
    """Limits of requests, answers and connections, and of the memory a worker holds for its callers."""

    max_body_bytes: MessageBytes = 64 << 20
    """Largest message, plain and inflated, on both transports."""

    max_json_bytes: MessageBytes = 8 << 20
    """Largest JSON of a request, plain and inflated; binary tensors behind it do not count."""

    max_output_bytes: MessageBytes = 256 << 20
    """Largest encoded answer, on both transports."""

    max_elements: Annotated[int, Field(ge=1, le=1 << 30)] = 1 << 22
    """Most numbers in typed contents of a gRPC request or answer; raw contents are not counted."""

    max_text_elements: Annotated[int, Field(ge=1, le=1 << 30)] = 1 << 16
    """Most elements of BYTES tensors in a request or an answer."""

    max_text_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 8 << 20
    """Most bytes of BYTES tensors in a request."""

    memory_bytes: MemoryBytes = "auto"
    """Memory each worker may hold for its callers; auto is a quarter of the machine's, shared by all workers."""

    models_memory_bytes: MemoryBytes = "auto"
    """Memory that the models of a worker may take together; auto is its part of 80 % of the machine's."""

    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most connections of a worker on each of its ports."""

    address_quota: QuotaSettings | None = None
    """Quota of each client address where callers need no credential; an IPv6 client is its /64 network."""

    freeze_seconds: Annotated[float, Field(ge=0.5, le=3600)] = 1.2
    """Silence of a worker's event loop after which it is replaced as frozen; ten times as long while it computes."""

    deadline_seconds: PositiveSeconds = 60.0
    """Deadline of a request without one."""

    load_seconds: PositiveSeconds = 300.0
    """Longest wait for a model to be loaded or unloaded on request."""


class CorsSettings(Section):
    """Cross-origin access of browsers to the REST port."""

    origins: tuple[Annotated[str, Field(pattern=r"^(\*|null|https?://[^/\s,]+)$")], ...] = ()
    """Origins whose pages may use the REST port, such as "https://app.example"; "*" allows all, without credentials."""


class StopSettings(Section):
    """How the gateway stops."""

    drain_delay_seconds: Seconds = 1.0
    """Time to keep serving after readiness is off, so that load balancers notice."""

    drain_timeout_seconds: Seconds = 25.0
    """Time for open requests to finish."""

    orphan_grace_seconds: Seconds = 60.0
    """Time that workers keep serving without a control process."""


class TrustedSignerSettings(Section):
    """A signer whose signatures of models count."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """Its name in messages and in the audit."""

    public_key_file: Path | None = None
    """File with its public key, PEM (P-256, P-384, P-521 or Ed25519)."""

    ca_file: Path | None = None
    """File with the certificates, PEM, of the authority that issued its certificate, instead of a public key."""

    identity: Annotated[str, Field(max_length=256)] = ""
    """Name in its certificate: a subject alternative name (URI, DNS or e-mail), or the common name without one."""

    models: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] = ("*",)
    """Models that it may sign, such as "fraud-*"."""

    def check(self) -> None:
        """See ``Section``."""
        certified = self.ca_file is not None and bool(self.identity)
        if (self.public_key_file is not None) == certified or (self.ca_file is not None) != bool(self.identity):
            raise ValueError("state public_key_file, or ca_file and identity")


def _read_off(value: Any) -> Any:
    """Accept ``off`` without quotes: YAML reads it as false."""
    return "off" if value is False else value


class SignatureSettings(Section):
    """Signatures of models, checked before a version is examined and at each load."""

    mode: Annotated[Literal["off", "warn", "require"], Prepare(_read_off)] = "off"
    """What a missing or bad signature does: nothing (off), a warning (warn), or a refusal (require)."""

    trusted: tuple[TrustedSignerSettings, ...] = ()
    """Signers whose signatures count."""

    threshold: Annotated[int, Field(ge=1, le=16)] = 1
    """Number of different signers that must have signed a version."""

    bound: bool = False
    """Count only signatures that name the model and the version, so that signed versions cannot be exchanged."""

    def check(self) -> None:
        """See ``Section``."""
        names = [signer.name for signer in self.trusted]
        if len(set(names)) < len(names):
            raise ValueError("each trusted signer needs a name of its own")
        if self.mode == "require" and self.threshold > len(names):
            raise ValueError(f"threshold is {self.threshold}, and trusted has {len(names)} signers")


class AdmissionSettings(Section):
    """Limits for the examination of a version before it may serve, and the signatures that it needs."""

    seconds: PositiveSeconds = 4.0
    """Processor time for loading and trying it, in addition to a share for its size; four times as much wall time."""

    memory_bytes: Annotated[int, Field(ge=256 << 20, le=1 << 44)] = 4 << 30
    """Memory, in addition to a share for its size."""

    max_bytes: Annotated[int, Field(ge=1024, le=1 << 44)] = 16 << 30
    """Largest content that is received, packed and unpacked."""

    signatures: SignatureSettings = SignatureSettings()


class WatchSettings(Section):
    """How a model folder is watched."""

    seconds: Seconds = 1.0
    """Time between two scans; 0 scans only at the start and at repository load requests."""

    settle_seconds: Seconds = 2.0
    """Time that a version's files must stay unchanged before it is loaded."""


AnswersBytes = Annotated[int, Field(ge=16 << 20, le=1 << 44)]


class MonitorSettings(Section):
    """Settings of the monitor, the same on all gateways of a fleet."""

    false_alarms_per_day: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Bound of false alarms per day, for drift and for labels, of the whole fleet and all versions; 0 is no bound."""

    gateways: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Maximum number of gateways in the fleet; each gets an equal part of that bound."""

    model_answers_bytes: AnswersBytes = 256 << 20
    """Disk of each gateway for the answers of one model, to join labels to; the oldest are deleted first."""

    answers_bytes: AnswersBytes = 1 << 30
    """Disk of each gateway for the answers of all models; a model above its fair share loses its oldest."""


Days = Annotated[int, Field(ge=1, le=36_500)]

DiskBytes = Annotated[int, Field(ge=1 << 20, le=1 << 44)]


class RetentionSettings(Section):
    """Retention of stored data, in days, and its limits."""

    events_days: Days = 90
    """Events; those not yet delivered stay."""

    audit_days: Days = 365
    """Entries of the audit in the database; older ones move into compressed archives beside the contents."""

    audit_archive_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    """Archives of the audit; 0 keeps them for ever."""

    trials_days: Days = 90
    """Finished rollouts and experiments; the newest of each model stays."""

    trials_per_model: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Maximum number of finished rollouts, and of experiments, for each model."""

    deliveries_days: Days = 7
    """Successful deliveries to sinks."""

    dead_deliveries_days: Days = 30
    """Failed deliveries, which can be replayed until then."""

    retired_versions_days: Days = 365
    """Records of retired versions; after that their numbers can be used again."""

    references_days: Days = 30
    """References of versions that no gateway serves and the registry does not offer."""

    keys_days: Days = 90
    """API keys that were revoked or have expired."""

    erasures_days: Days = 30
    """Requests to erase the rows of a subject, in a fleet; a gateway that comes back within this time erases too."""

    exports_days: Days = 30
    """Rows and output of training commands, below retraining in the home."""

    exports_bytes: DiskBytes = 10 << 30
    """Disk for them on each gateway; the oldest are deleted first, those of the last day stay."""

    copies_days: Days = 1
    """Unused local copies of contents and references."""

    series_seconds: Annotated[float, Field(ge=1, le=30 * 86_400)] = 3600.0
    """Metrics of versions that are no longer served."""


class AuditSettings(Section):
    """The audit: signed checkpoints, and its entries as log lines."""

    log: bool = False
    """Write each new entry as a log line of the logger penstock.audit; in a fleet, the gateway that leads writes it."""

    key_file: Path | None = None
    """Private key (Ed25519, PEM, mode 600) that signs checkpoints, one for a fleet; by default HOME/audit.key."""

    trusted_keys: Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=100)] = ()
    """Public keys of other homes (NAME+ID+BASE64) whose checkpoints are trusted."""

    sinks: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=10)] = ()
    """Names of sinks of this configuration (webhook, file or nats) that receive each signed checkpoint."""


class PrometheusSettings(Section):
    """A Prometheus server."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    """Its address, such as http://127.0.0.1:9090."""


SecretName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")]


class SecretSettings(Section):
    """A secret, from one of three sources; policies, sinks and webhooks use it by its name."""

    file: Path | None = None
    """File with the secret; only its owner may read it."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] | None = None
    """Environment variable with the secret; the gateway's workers and commands do not get it."""

    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Command that prints the secret, within ten seconds; its output is used for a minute."""

    def check(self) -> None:
        """See ``Section``."""
        if (self.file is not None) + (self.env is not None) + bool(self.command) != 1:
            raise ValueError("expected one of file, env and command")
        if self.env is not None and (text := os.environ.get(self.env)) is not None:  # which may be removed from there
            self.__dict__["_value"] = Secret(self.env, os.fsencode(text).strip())

    @property
    def value(self) -> Secret | None:
        """Return the value of the variable, None if it was not set."""
        kept: Secret | None = self.__dict__.get("_value")
        return kept


def _check_host(text: str) -> None:
    parse_hosts([text])


SinkHost = Annotated[str, Check(_check_host)]


class MlflowSettings(Section):
    """An MLflow tracking server whose registered models are copied into the registry."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    """Its address; credentials come from MLFLOW_TRACKING_USERNAME, _PASSWORD or _TOKEN."""

    models: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of the registered models to copy; none means all."""

    poll_seconds: PositiveSeconds = 30.0
    """Time between two queries."""

    webhook_secret_file: Path | None = None
    """File with the secret that MLflow signs its webhooks with; without one, webhooks are refused."""

    webhook_secret: SecretName | None = None
    """Name of the secret that MLflow signs its webhooks with, instead of a file."""

    def check(self) -> None:
        """See ``Section``."""
        if self.webhook_secret_file is not None and self.webhook_secret is not None:
            raise ValueError("give webhook_secret_file or webhook_secret, not both")


class TlsSettings(Section):
    """TLS on all ports; changed files are taken over within seconds, without a restart."""

    certificate_file: Path
    """File with the certificate chain, PEM."""

    key_file: Path
    """File with the private key, PEM, without a password."""

    client: Literal["optional", "required"] = "optional"
    """Whether clients must have a certificate of an authority in auth.mtls.client_ca."""
