"""All settings in one frozen tree: flags before environment before file before defaults."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from penstock.config.access import AuthSettings
from penstock.config.cloud import SagemakerSettings, VertexSettings
from penstock.config.documents import ConfigFault, read_mapping, read_text
from penstock.config.environment import find_service_links, merge, read_environment
from penstock.config.fields import Expected, Field, Prepare, Section, plain_value
from penstock.config.observability import MetricsPush, Ratio, TracingSettings
from penstock.config.reading import SettingFault, read_section
from penstock.config.sections import (
    AdmissionSettings,
    AuditSettings,
    CorsSettings,
    LimitSettings,
    MlflowSettings,
    MonitorSettings,
    PrometheusSettings,
    RetentionSettings,
    SecretName,
    SecretSettings,
    SinkHost,
    StopSettings,
    TlsSettings,
    WatchSettings,
)
from penstock.core.addresses import HIDDEN, find_credentials, hide_credentials, hide_tokens

Port = Annotated[int, Field(ge=0, le=65535)]

TrustedHost = Annotated[
    str, Field(pattern=r"^(\*|(\*\.)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]+)$")
]

Workers = Annotated[
    Annotated[int, Field(ge=1, le=256)] | Literal["auto"], Expected("expected a number from 1 to 256, or auto")
]


def _to_list(value: Any) -> Any:
    """Accept one repository as a text or path, several as a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        return read_text(value)
    return [str(value)] if isinstance(value, (str, Path)) else value


DialectName = Literal["azure", "kserve_v1", "mlflow", "sagemaker", "tfs", "vertex"]

Repositories = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Prepare(_to_list)]


class Settings(Section):
    """All settings; names in the environment are ``PENSTOCK_HTTP_PORT``, ``PENSTOCK_STOP__DRAIN_DELAY_SECONDS``."""

    models: Repositories = ()
    """Folders with the models to serve, and buckets (s3://BUCKET/PREFIX); none serves the registry."""

    model_name: Annotated[str, Field(max_length=128)] = ""
    """Name of the model in the one folder in models, which has a graph or version folders; none by default."""

    home: Path = Path("~/.local/share/penstock")
    """Folder of Penstock's own files; a new gateway on the same home takes over from the old one."""

    registry: str = ""
    """Database of versions and aliases: a folder, which then is the home, sqlite:///PATH or postgresql://HOST/NAME."""

    blobs: str = ""
    """Storage of contents: a folder, or s3://BUCKET/PREFIX with keys from AWS_...; in the home by default."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address of the REST and gRPC ports; one beyond loopback needs auth and tls."""

    http_port: Port = 8000
    """REST port, 0 picks a free one."""

    grpc_port: Port = 8001
    """gRPC port, 0 picks a free one."""

    ops_port: Port = 8002
    """Port of health, metrics and administration, 0 picks a free one."""

    ops_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address of the ops port; one beyond loopback needs auth and tls."""

    health_port: Port | None = None
    """Port that answers /livez and /readyz and nothing else, for probes; none by default."""

    health_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address of the health port."""

    trusted_hosts: tuple[TrustedHost, ...] = ()
    """Hosts that requests may name beside loopback ones, as "*.example.com"; "*" is any, and none is any with auth."""

    insecure_no_auth: bool = False
    """Listen beyond loopback without auth and tls, on a network where everyone may use the gateway."""

    repository_control: bool | None = None
    """Whether clients load models and register shared memory: by default with auth, else if only loopback is used."""

    workers: Workers = 1
    """Worker processes; auto is one for each core."""

    ready_workers: Workers = "auto"
    """Workers that must be ready for /readyz; auto: all at the start, at least one later."""

    grpc_outputs: Literal["raw", "mirror"] = "raw"
    """Form of gRPC answers: raw contents always, or mirror, typed contents for typed requests."""

    shared_memory: tuple[Annotated[str, Field(pattern=r"^/?[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\*?$")], ...] = ()
    """Names of the shared memory segments that clients may use for tensors; "/images-*" allows a prefix."""

    dialects: tuple[DialectName, ...] = ()
    """Protocols beside V2 that the data ports speak; where two have the same path, the first one answers."""

    default_model: Annotated[str, Field(max_length=128)] = ""
    """Model that answers paths of dialects that name none, such as /invocations; by default the only one served."""

    extra_columns: Literal["refuse", "ignore"] = "refuse"
    """What becomes of columns of rows that a model does not take."""

    ready_file: Path | None = None
    """File to write when ready."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of log lines on standard error."""

    log_format: Literal["text", "json", "ecs"] = "text"
    """Form of log lines: text, json (one object each), or ecs (Elastic Common Schema)."""

    access_log_ratio: Ratio = 0.0
    """Share of the requests that have a line in the log, without their content."""

    confinement: Literal["required", "best_effort"] | None = None
    """Confinement of processes that run models; required: no model without it. required with auth, else best_effort."""

    tls: TlsSettings | None = None
    """TLS on the REST, gRPC and ops ports; none by default."""

    auth: AuthSettings | None = None
    """Credentials that are accepted, and what their callers may do; by default nobody needs one."""

    limits: LimitSettings = LimitSettings()
    cors: CorsSettings = CorsSettings()
    stop: StopSettings = StopSettings()
    admission: AdmissionSettings = AdmissionSettings()
    watch: WatchSettings = WatchSettings()
    monitor: MonitorSettings = MonitorSettings()
    retention: RetentionSettings = RetentionSettings()
    audit: AuditSettings = AuditSettings()
    tracing: TracingSettings = TracingSettings()

    metrics_otlp: MetricsPush = None
    """An OTLP receiver that gets the metrics, or only its address; none by default."""

    sagemaker: SagemakerSettings = SagemakerSettings()
    vertex: VertexSettings = VertexSettings()

    prometheus: PrometheusSettings | None = None
    """A Prometheus server that rollout guards may query; none by default."""

    mlflow: MlflowSettings | None = None
    """An MLflow server whose models are copied; none by default."""

    secrets: Annotated[Mapping[SecretName, SecretSettings], Field(max_length=256)] = {}
    """Secrets by name, such as {hook: {file: /run/secrets/hook}}; sinks use them by these names."""

    sinks: Annotated[Mapping[SecretName, Mapping[str, Mapping[str, Any]]], Field(max_length=16)] = {}
    """Sinks that the policies of all models may name, in the form of a policy's sinks."""

    sink_hosts: tuple[SinkHost, ...] = ()
    """Hosts, "*.DOMAIN", addresses and networks that sinks made by policies may reach; none by default."""

    def check(self) -> None:
        """See ``Section``."""
        if len(set(self.dialects)) < len(self.dialects):
            raise ValueError("dialects names a protocol twice")
        if self.client_ca is not None and self.tls is None:
            raise ValueError("auth.mtls needs tls: set tls.certificate_file and tls.key_file")
        if self.tls is not None and self.tls.client == "required" and self.client_ca is None:
            raise ValueError("tls.client: required needs the authorities of client certificates, auth.mtls.client_ca")

    @property
    def client_ca(self) -> Path | None:
        """The file with the authorities of client certificates, None without one."""
        return None if self.auth is None or self.auth.mtls is None else self.auth.mtls.client_ca


def load_settings(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> Settings:
    """Return the effective settings; ``flags`` maps dotted setting names to values, None meaning not given.

    ``defaults`` is a document whose values count where nothing else states one.

    Raises:
        ConfigFault: with every error of all sources.
    """
    document, faults = read_mapping(file, "the configuration file", "lines such as 'http_port: 8000'")
    found: list[SettingFault] = []
    others = merge(read_environment(Settings, os.environ, found), merge(document, defaults or {}))
    stated = merge(_build_tree(flags or {}), others)
    settings = read_section(Settings, stated, found)
    faults += map(_describe_fault, found)
    if settings is None or faults:
        raise ConfigFault(faults)
    return settings


def find_ignored_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that has the name of a setting and does not state it."""
    return [
        f"{variable} is ignored: Kubernetes made it for a service; give the service another name, or set "
        "enableServiceLinks: false in the pod"
        for variable in find_service_links(Settings, environment)
    ]


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration file."""
    from penstock.config.schema import schema_of  # noqa: PLC0415 - no start needs it

    return schema_of(Settings)


def settings_document(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values; addresses are shown without user, password and query, and commands without
    their arguments."""
    shown: dict[str, Any] = _without_credentials(plain_value(settings))
    return shown


def address_credentials(settings: Settings) -> frozenset[str]:
    """Return the passwords and queries in addresses of the settings, so that logs can leave them out."""
    return frozenset().union(*map(find_credentials, _texts_in(plain_value(settings))))


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


def _without_credentials(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(item, key) for key, item in value.items()}
    if isinstance(value, list):
        if name in _COMMANDS:
            return [*value[:1], *(HIDDEN for _ in value[1:])]
        return [_without_credentials(item) for item in value]
    if not isinstance(value, str):
        return value
    shown = hide_credentials(value)
    return hide_tokens(shown) if name == "url" else shown


_COMMANDS = ("argv", "command")
"""Names of settings that are commands: their arguments may hold secrets."""


def _build_tree(flags: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            *sections, leaf = name.split(".")
            branch = tree
            for section in sections:
                branch = branch.setdefault(section, {})
            branch[leaf] = value
    return tree


def _describe_fault(fault: SettingFault) -> str:
    name = ".".join(fault.path)
    if fault.is_unknown:
        return f"{name} is not a setting"
    if not name:
        return fault.message  # of several settings: the whole tree is no use, and may hold secrets
    return f"{name}: {fault.message}{_shown_value(fault)}"


def _shown_value(fault: SettingFault) -> str:
    """Return the value of an invalid setting for its message; "" if it may hold a secret."""
    value, path = fault.value, fault.path
    if not isinstance(value, (str, int, float)) or path[0] in _SECRETIVE or path[-1] in _SECRETIVE:
        return ""
    return f" (got {value!r})" if hide_credentials(str(value)) == str(value) else ""


_SECRETIVE = frozenset({"secrets", "sinks", "auth", "registry", "blobs", "url"})
"""Settings whose invalid values are not shown: secrets in a wrong place, and what only looks like an address."""
