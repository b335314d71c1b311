"""Every setting of Penstock in one frozen tree: flags before environment before file before defaults."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def _one_sentence(sentence: str) -> WrapValidator:
    """One sentence for a union, where pydantic has one for each member."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(sentence) from None

    return WrapValidator(check)


Workers = Annotated[
    Annotated[int, Field(ge=1, le=256)] | Literal["auto"], _one_sentence("expected a number from 1 to 256, or auto")
]
MemoryBytes = Annotated[
    Annotated[int, Field(ge=1 << 20, le=1 << 44)] | Literal["auto"],
    _one_sentence("expected a number of bytes from 1048576, or auto"),
]


def _listed(value: Any) -> Any:
    """One repository is stated as a text or a path, several as a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        return yaml.safe_load(value)
    return [str(value)] if isinstance(value, (str, Path)) else value


Repositories = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], NoDecode, BeforeValidator(_listed)]


class ConfigFault(Exception):
    """Settings that cannot be used; ``faults`` names every one of them, a sentence each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


MessageBytes = Annotated[int, Field(ge=1024, le=2**31 - 1)]


class Limits(_Section):
    """Bounds on requests and their answers, on connections, and on what a worker holds for its callers."""

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

    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most connections of a worker on each of its ports."""

    freeze_seconds: Annotated[float, Field(ge=0.5, le=3600, allow_inf_nan=False)] = 1.2
    """Silence of a worker's event loop after which it is replaced as frozen; ten times as long while it computes."""

    deadline_seconds: PositiveSeconds = 60.0
    """Deadline of a request that states none."""

    load_seconds: PositiveSeconds = 300.0
    """Longest wait for a model to be loaded or unloaded on request."""


class Cors(_Section):
    """Pages of other origins that may ask the REST port, by their browsers' rules."""

    origins: tuple[Annotated[str, Field(pattern=r"^(\*|null|https?://[^/\s,]+)$")], ...] = ()
    """Origins whose pages may use the REST port, such as "https://app.example"; "*" allows all, without credentials."""


class Stop(_Section):
    """How the gateway ends."""

    drain_delay_seconds: Seconds = 1.0
    """Time to go on serving after readiness is off, so that load balancers notice."""

    drain_timeout_seconds: Seconds = 25.0
    """Time requests under way get to finish."""

    orphan_grace_seconds: Seconds = 60.0
    """Time workers go on serving without a control process."""


class Admission(_Section):
    """What a model may take while it is examined, before it may serve."""

    seconds: PositiveSeconds = 4.0
    """Processor time for loading and trying it, on top of what its size asks for; four times as much may pass."""

    memory_bytes: Annotated[int, Field(ge=256 << 20, le=1 << 44)] = 4 << 30
    """Memory, on top of what its size asks for."""

    max_bytes: Annotated[int, Field(ge=1024, le=1 << 44)] = 16 << 30
    """Largest content that is received, packed and unpacked."""


class Watch(_Section):
    """How a model folder is watched."""

    seconds: Seconds = 1.0
    """Time between two looks; 0 looks only at the start and at repository load requests."""

    settle_seconds: Seconds = 2.0
    """Time a version's files must have stayed the same before it is taken."""


AnswersBytes = Annotated[int, Field(ge=16 << 20, le=1 << 44)]


class Monitor(_Section):
    """What gateways of one fleet agree on for their monitors."""

    false_alarms_per_day: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """False alarms of drift, and of labels, a day of the whole fleet, all versions together, at most; 0 is no bound."""

    gateways: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Gateways of the fleet, the most there may be at a time; each takes its part of that bound."""

    model_answers_bytes: AnswersBytes = 256 << 20
    """Disk of each gateway for remembered answers of one model, which labels are joined to; the oldest go first."""

    answers_bytes: AnswersBytes = 1 << 30
    """Disk of each gateway for those of all models; a model beyond a fair share gives up its own oldest."""


Days = Annotated[int, Field(ge=1, le=36_500)]
RoomBytes = Annotated[int, Field(ge=1 << 20, le=1 << 44)]


class Retention(_Section):
    """How long what grows is kept, in days, and how much of it."""

    events_days: Days = 90
    """Events; those that are still to be sent stay."""

    audit_days: Days = 365
    """Entries of the audit in the database; older ones move into compressed archives beside the contents."""

    audit_archive_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    """Archives of the audit; 0 keeps them for ever."""

    trials_days: Days = 90
    """Rollouts and experiments that are over; the newest of each model stays."""

    trials_per_model: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Most rollouts, and experiments, that are over and kept of one model."""

    deliveries_days: Days = 7
    """Deliveries that sinks took."""

    dead_deliveries_days: Days = 30
    """Deliveries that were given up, and can be replayed until then."""

    retired_versions_days: Days = 365
    """Records of retired versions; after that their numbers can be used again."""

    references_days: Days = 30
    """References of versions that no gateway serves and the registry does not offer."""

    exports_days: Days = 30
    """Rows and output of training commands, below retraining in the home."""

    exports_bytes: RoomBytes = 10 << 30
    """Room for them on each gateway; the oldest go first, those of the last day stay."""

    copies_days: Days = 1
    """Copies on each gateway of contents and references that nobody needs any more."""

    series_seconds: Annotated[float, Field(ge=1, le=30 * 86_400, allow_inf_nan=False)] = 3600.0
    """Metrics of versions that are gone."""


class Prometheus(_Section):
    """A Prometheus server."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    """Its address, such as http://127.0.0.1:9090."""


class Mlflow(_Section):
    """An MLflow tracking server whose registered models are mirrored into the registry."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    """Its address; credentials come from MLFLOW_TRACKING_USERNAME, _PASSWORD or _TOKEN."""

    models: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of the registered models to mirror; none means all of them."""

    poll_seconds: PositiveSeconds = 30.0
    """Time between two looks."""

    webhook_secret_file: Path | None = None
    """File with the secret that MLflow signs its webhooks with; without one, webhooks are refused."""


class Tls(_Section):
    """TLS on the data plane's two ports."""

    certificate_file: Path
    """File with the certificate and those that vouch for it, PEM."""

    key_file: Path
    """File with its key, PEM, without a password."""


class Settings(BaseSettings):
    """All settings; names in the environment are ``PENSTOCK_HTTP_PORT``, ``PENSTOCK_STOP__DRAIN_DELAY_SECONDS``."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    models: Repositories = ()
    """Folders with the models to serve, and buckets (s3://BUCKET/PREFIX); none serves the registry."""

    model_name: Annotated[str, Field(max_length=128)] = ""
    """Name of the model that the one folder in models is, with a graph or version folders in it; none by default."""

    home: Path = Path("~/.local/share/penstock")
    """Penstock's own folder; control processes of one home take over from each other."""

    registry: str = ""
    """Where versions and aliases are kept: a folder, which is the home then, sqlite:///PATH or postgresql://HOST/NAME."""

    blobs: str = ""
    """Where contents are kept: a folder, or s3://BUCKET/PREFIX with keys from AWS_...; in the home by default."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on."""

    http_port: Port = 8000
    """REST port, 0 picks a free one."""

    grpc_port: Port = 8001
    """gRPC port, 0 picks a free one."""

    ops_port: Port = 8002
    """Port of health, metrics and administration, 0 picks a free one."""

    workers: Workers = 1
    """Worker processes; auto is one for each core."""

    ready_workers: Workers = "auto"
    """Workers that must be ready for /readyz; auto: all at the start, at least one later."""

    grpc_outputs: Literal["raw", "mirror"] = "raw"
    """Form of gRPC answers: raw contents always, or mirror, typed contents for typed requests."""

    shared_memory: tuple[Annotated[str, Field(pattern=r"^/?[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\*?$")], ...] = ()
    """Names of the shared memory segments that clients may use for tensors; "/images-*" allows all that begin so."""

    ready_file: Path | None = None
    """File to write when ready."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of the lines on standard error."""

    tls: Tls | None = None
    """TLS on the REST and gRPC ports; none by default."""

    limits: Limits = Limits()
    cors: Cors = Cors()
    stop: Stop = Stop()
    admission: Admission = Admission()
    watch: Watch = Watch()
    monitor: Monitor = Monitor()
    retention: Retention = Retention()

    prometheus: Prometheus | None = None
    """A Prometheus server that guards of rollouts may ask; none by default."""

    mlflow: Mlflow | None = None
    """An MLflow server to mirror; none by default."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the file; ``load`` hands flags and file over together."""
        flags, document = (init_settings() or {}).values()
        return (
            InitSettingsSource(settings_cls, flags),
            env_settings,
            InitSettingsSource(settings_cls, document),
        )


def load(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings that hold; ``flags`` maps dotted setting names to values, None meaning not given.

    Raises:
        ConfigFault: with every fault of all sources.
    """
    document, faults = _read(file, "the configuration file", "lines such as 'http_port: 8000'")
    try:
        settings = Settings(flags=_tree(flags or {}), document=document)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigFault(faults + [_sentence(one) for one in error.errors()]) from None
    except SettingsError as error:
        raise ConfigFault([*faults, str(error)]) from None
    if faults:
        raise ConfigFault(faults)
    return settings


def schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    return Settings.model_json_schema()


def document(settings: Settings) -> dict[str, Any]:
    """Settings as the plain values a file would hold; passwords in addresses are masked."""
    values = settings.model_dump(mode="json")
    values["registry"] = _masked(values["registry"])
    if values["prometheus"]:
        values["prometheus"]["url"] = _masked(values["prometheus"]["url"])
    if values["mlflow"]:
        values["mlflow"]["url"] = _masked(values["mlflow"]["url"])
    return values


def _masked(address: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", address)


def read_document(file: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file that a person wrote; ``what`` names it.

    Raises:
        ConfigFault: it cannot be read, or holds no mapping.
    """
    document, faults = _read(file, what, "lines such as 'name: value'")
    if faults:
        raise ConfigFault(faults)
    return document


def _read(file: Path | None, what: str, expected: str) -> tuple[dict[str, Any], list[str]]:
    if file is None:
        return {}, []
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        return {}, [f"{what} {file} cannot be read: {(error.strerror or 'error').lower()}"]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return {}, [f"{what} {file} is no YAML: {' '.join(str(error).split())}"]
    if content is None:
        return {}, []
    if not isinstance(content, dict):
        return {}, [f"{what} {file} holds no settings; expected {expected}"]
    return {str(key): value for key, value in content.items()}, []


def _tree(flags: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            *sections, leaf = name.split(".")
            place = tree
            for section in sections:
                place = place.setdefault(section, {})
            place[leaf] = value
    return tree


def _sentence(error: Mapping[str, Any]) -> str:
    name = ".".join(map(str, error["loc"])) or "settings"
    if error["type"] == "extra_forbidden":
        return f"{name} is no setting"
    wanted = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {wanted[0].lower()}{wanted[1:]} (got {error['input']!r})"


def written(document: dict[str, Any]) -> str:
    """A document as people write it in a file."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def lines_of(file: Path) -> dict[str, int]:
    """The line of each value of a YAML or JSON file, by its path (``triggers[0].when``), as faults name it."""
    found: dict[str, int] = {}

    def walk(node: yaml.Node | None, path: str) -> None:
        if node is None:
            return
        found[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = f"{path}.{key.value}" if path else str(key.value)
                walk(value, below)
                found[below] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                walk(value, f"{path}[{index}]")

    walk(yaml.compose(file.read_text(), yaml.SafeLoader), "")
    return found
