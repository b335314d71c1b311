"""The options that a worker is started with; fixed for the life of its instance."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from penstock.core.model_signing import NO_SIGNATURES, SignaturePolicy, parse_signature_policy


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of a worker, in addition to the desired state.

    ``threads`` is this worker's share of the cores. ``memory_bytes`` bounds what it holds for its callers (None: a
    share of the machine's memory), ``models_memory_bytes`` what its models take (None: no bound), ``max_connections``
    the connections of each of its ports. ``deadline_s`` bounds a request that states no limit itself,
    ``orphan_grace_s`` the time without a control process, ``load_s`` a repository request. ``grpc_outputs`` is ``raw``
    or ``mirror``; ``shared_memory`` names the segments that clients may use. ``dialects`` are the protocols of the
    REST port beside V2, ``default_model`` the model of their paths that name none, and ``dialect_options`` the
    options of each. ``cors_origins`` are the origins whose pages may ask, and ``trusted_hosts`` the hosts that
    requests may name beside loopback ones. ``repository_control``: whether callers load models and register shared
    memory. With ``tls``, the ports open when the certificate has arrived by the control channel. ``signatures``
    says whose signatures a version needs to be loaded, with the keys themselves. ``trace_ratio`` of the requests
    are traced, ``traces_forced_per_second`` at most of those that this worker's callers force, and
    ``access_log_ratio`` go to the access log. ``readable`` and ``writable`` are the folders that it may use once it
    is confined; with ``is_confinement_required`` it ends if a layer of confinement is missing.
    """

    host: str
    http_port: int
    grpc_port: int
    workers: int = 1
    grpc_outputs: str = "raw"
    threads: int = 1
    max_body_bytes: int = 64 << 20
    max_json_bytes: int = 8 << 20
    freeze_s: float = 1.2
    max_output_bytes: int = 256 << 20
    max_elements: int = 1 << 22
    max_text_elements: int = 1 << 16
    max_text_bytes: int = 8 << 20
    memory_bytes: int | None = None
    models_memory_bytes: int | None = None
    max_connections: int = 10_000
    deadline_s: float = 60.0
    drain_delay_s: float = 1.0
    drain_timeout_s: float = 25.0
    orphan_grace_s: float = 60.0
    load_s: float = 300.0
    log_level: str = "info"
    log_format: str = "text"
    trace_ratio: float = 0.0
    traces_forced_per_second: float = 0.0
    access_log_ratio: float = 0.0
    shared_memory: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()
    default_model: str = ""
    dialect_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cors_origins: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    repository_control: bool = True
    tls: bool = False
    signatures: SignaturePolicy = NO_SIGNATURES
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    is_confinement_required: bool = False


_LISTED = ("shared_memory", "dialects", "cors_origins", "trusted_hosts", "readable", "writable")


def encode_options(options: WorkerOptions) -> dict[str, Any]:
    """Encode options as JSON values."""
    return asdict(options)


def options_in(values: Mapping[str, Any]) -> WorkerOptions:
    """Decode options from their JSON values."""
    listed = {name: tuple(values.get(name, ())) for name in _LISTED}
    parts: dict[str, Any] = {}
    if "signatures" in values:
        parts["signatures"] = parse_signature_policy(values["signatures"])
    return WorkerOptions(**{**values, **listed, **parts})


def make_fingerprint(options: WorkerOptions, models: str, version: str) -> str:
    """Return what must be equal for a control process to adopt the workers of another: everything except the ports."""
    rest = {name: value for name, value in asdict(options).items() if name not in {"http_port", "grpc_port"}}
    return hashlib.sha256(json.dumps([rest, models, version], sort_keys=True).encode()).hexdigest()
